// What the node tells of itself to those who look at it: its modules, and its
// co-ops as a tree.

#pragma once

#include "plugin/task_table.hpp"
#include "rpc/offer.hpp"

namespace esp::app {

// `tasks` must outlive all calls.
served::knowledge knowledge_of(plugin::task_table& tasks);

} // namespace esp::app
