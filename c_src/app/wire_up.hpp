// The one place where the rooms meet.

#pragma once

#include "app/options.hpp"
#include "esp/error.hpp"
#include "node/node.hpp"
#include "plugin/task_table.hpp"
#include "rpc/function_table.hpp"
#include "trace/table.hpp"

#include <memory>

namespace esp::otp {
class logging;
}

namespace esp::app {

class engine {
public:
  explicit engine(options o);
  ~engine();
  engine(const engine&) = delete;
  engine& operator=(const engine&) = delete;

  // Loads the plugins given, listens, registers, and starts the processes
  // that others expect of a node.
  result<void> start();
  void stop();
  node::node& node() noexcept { return node_; }

private:
  options options_;
  plugin::task_table tasks_;
  served::function_table functions_; // outlives the node's processes
  trace::table traces_;               // likewise
  node::node node_;
  std::unique_ptr<otp::logging> logging_;
};

} // namespace esp::app
