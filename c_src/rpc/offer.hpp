// All that other nodes may call on a node of ours, put together.

#pragma once

#include "node/node.hpp"
#include "rpc/function_table.hpp"

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace esp::trace {
class table;
}

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

// Plugin and task: what is traced as a function of two arguments.
using task_name = std::pair<atom, atom>;
using tasks_of = std::function<std::vector<task_name>()>;

// What the rooms above know of the node, asked on the fiber of a process.
struct knowledge {
  std::function<std::vector<loaded_module>()> modules
      = [] { return std::vector<loaded_module>(); };
  std::function<process_tree(node::node&)> processes
      = [](node::node&) { return process_tree(); };
  tasks_of tasks = [] { return std::vector<task_name>(); };
};

// Fills `table` with the functions every node has, and makes `home` answer
// spawn requests from it, and its processes be traced. `stop` is what
// init:stop/0 does: it must return at once, and see to an orderly end. Before
// node::start(); `table` and `traces` must outlive the node.
void offer(node::node& home, function_table& table, trace::table& traces,
           std::function<void()> stop, knowledge more = {});
// Registers net_kernel and rex. After node::start().
void start_servers(node::node& home, const function_table& table);

} // namespace esp::served
