// All that other nodes may call on a node of ours, put together.

#pragma once

#include "node/node.hpp"
#include "rpc/function_table.hpp"

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace esp::served {

// What observer's Applications tab shows: each process once, the root first,
// and which of them belongs to which, by their places. A text is UTF-8, and of
// one process only. Those of `across` are drawn across the tree.
struct process_tree {
  struct vertex {
    esp::pid process;
    std::string text;
  };
  using link = std::pair<std::size_t, std::size_t>;
  std::vector<vertex> processes;
  std::vector<link> links, across;
};

// What the rooms above know of the node, asked on the fiber of a process.
struct knowledge {
  std::function<std::vector<loaded_module>()> modules
      = [] { return std::vector<loaded_module>(); };
  std::function<process_tree(node::node&)> processes
      = [](node::node&) { return process_tree(); };
};

// Fills `table` with the functions every node has, and makes `home` answer
// spawn requests from it. `stop` is what init:stop/0 does: it must return at
// once, and see to an orderly end. Before node::start(); `table` must outlive
// the node's processes.
void offer(node::node& home, function_table& table, std::function<void()> stop,
           knowledge more = {});
// Registers net_kernel and rex. After node::start().
void start_servers(node::node& home, const function_table& table);

} // namespace esp::served
