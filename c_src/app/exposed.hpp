// What plugins expose, in the table of what other nodes may call.

#pragma once

#include "plugin/task_table.hpp"
#include "rpc/function_table.hpp"

namespace esp::app {

// From now on, each image that `tasks` loads puts its functions into `table`,
// in place of those of the image before it; calls under way keep theirs. One
// whose modules are not free is not loaded. Both must outlive all loads.
void publish_exposed(plugin::task_table& tasks, served::function_table& table);

} // namespace esp::app
