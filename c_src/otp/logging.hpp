// Log events of our processes, for the `logger` of an Erlang node, and those
// that Erlang nodes send us. See logger(3) and protocol.md, section 15.

#pragma once

#include "node/node.hpp"
#include "otp/log_levels.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace esp::otp {

struct logging_options {
  unsigned burst = 200;              // events at once, and then
  unsigned per_second = 50;          // so many
  std::size_t max_event = 64u << 10; // bytes; a larger one is cut to text
};

// Takes a node's on_log, is_logged and on_crash. Must outlive the node's processes.
class logging {
public:
  explicit logging(node::node& home, logging_options o = {});
  logging(const logging&) = delete;
  logging& operator=(const logging&) = delete;

  // Registers `logger_proxy`, which prints on our stderr what peers send of
  // processes whose group leader is ours, and sends nothing back; it is also
  // told what loggers let by. Call it once the node has started.
  void start();

  // One event to the `logger_proxy` of the node of the group leader of `from`,
  // or of node::log_node(). On any thread; never waits. What comes too fast,
  // or finds no connection or a congested one, is dropped and counted.
  void write(const node::process* from, esp::level level, const term& event,
             const node::node::metadata& more);

  // False if the logger that would get it lets no such event by.
  bool allows(const node::process& from, esp::level level, atom module) const;

  std::uint64_t dropped() const;

private:
  node::peer_ptr target_of(const std::optional<pid>& leader) const;
  bool may_send(std::uint64_t& left_out);

  node::node& home_;
  const logging_options options_;
  log_levels levels_;
  mutable std::mutex mutex_;
  double tokens_;
  std::chrono::steady_clock::time_point filled_;
  std::uint64_t dropped_ = 0, left_out_ = 0;
};

// `fun Module:Name/Arity`.
term external_fun(std::string_view module, std::string_view name,
                  std::uint8_t arity);
// The term, or if it is larger its text, cut to about `limit` bytes.
term cut(const term& t, std::size_t limit);

} // namespace esp::otp
