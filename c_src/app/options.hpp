// What esp_node is told on its command line. Never a cookie: that comes on
// standard input, or from a file.

#pragma once

#include "node/node.hpp"
#include "rpc/function_table.hpp"

#include <string>
#include <vector>

namespace esp::app {

struct options {
  node::node_options node;
  std::string cookie_file; // empty: the first line of standard input
  std::vector<std::string> plugins;
  std::string log_level = "notice";
  served::policy rpc = served::policy::all; // for nodes other than the owner
  bool show_help = false;
  std::string help;
};

// Throws boost::program_options::error with what is wrong.
options read_options(int argc, const char* const* argv);

} // namespace esp::app
