// seq_trace(3): the token that travels with messages, and where the events of
// this node's processes go. The rules are erts' own: a process has the token of
// the message that it took last, and what it sends meanwhile takes along one
// that says which message came before it.

#pragma once

#include "esp/term.hpp"

#include "base/log.hpp"
#include "base/spinlock.hpp"
#include "dist/control.hpp"

#include <atomic>
#include <cstdint>
#include <optional>

namespace esp::node {

class node;

// {Flags, Label, Serial, From, LastCnt}
struct seq_token {
  enum flag : std::uint8_t {
    send = 1,
    receive = 2,
    print = 4,
    timestamp = 8,
    strict_monotonic_timestamp = 16,
    monotonic_timestamp = 32,
  };

  std::int64_t flags = 0;
  term label;
  std::int64_t serial = 0;
  term from; // a pid; of what a node itself has sent its name
  std::int64_t last = 0;
  std::uint32_t resets = 0; // those of this node when the token came to it

  bool operator==(const seq_token&) const = default;

  // None: no other node can have made it, and none would survive it.
  static std::optional<seq_token> read(const term& t);
  term to_term() const;
  // What the next message of `sender` takes along, whose counter is `clock`.
  seq_token next(const pid& sender, std::int64_t& clock) const;
};

dist::trace_token on_wire(const std::optional<seq_token>& t);

// Where the events go: to a process that set_system_tracer/1 has named, else by
// way of `esp_seq_trace` to the system tracer of the VM that hears of log
// events. From any thread.
class seq_tracer {
public:
  explicit seq_tracer(node& home) noexcept : home_(home) {}

  // None: the VM's. The former one.
  std::optional<pid> set(std::optional<pid> tracer);
  std::optional<pid> get() const;
  // It has ended.
  void gone(const pid& tracer);
  void lost(atom node_name);

  // Tokens that came before are none any more.
  void reset() noexcept { resets_.fetch_add(1, std::memory_order_relaxed); }
  std::uint32_t resets() const noexcept {
    return resets_.load(std::memory_order_relaxed);
  }

  // An event of that kind, if the token asks for it. Never waits: what finds the
  // connection to the tracer congested is dropped, and a log line says so.
  void tell(seq_token::flag what, const seq_token& t, const term& to,
            const term& message);

private:
  bool is_in_reach(atom node_name);
  term stamp(std::int64_t flags);

  node& home_;
  mutable spinlock lock_;
  std::optional<pid> tracer_;
  std::atomic<std::uint32_t> resets_{0};
  std::atomic<std::int64_t> unique_{0};
  base::log_limiter limiter_;
};

} // namespace esp::node
