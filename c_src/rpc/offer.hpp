// All that other nodes may call on a node of ours, put together.

#pragma once

#include "rpc/function_table.hpp"

#include <functional>

namespace esp::served {

// Fills `table` with the functions every node has, and makes `home` answer
// spawn requests from it. `stop` is what init:stop/0 does: it must return at
// once, and see to an orderly end. Before node::start(); `table` must outlive
// the node's processes.
void offer(node::node& home, function_table& table, std::function<void()> stop);
// Registers net_kernel and rex. After node::start().
void start_servers(node::node& home, const function_table& table);

} // namespace esp::served
