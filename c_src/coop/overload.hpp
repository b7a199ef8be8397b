// When what waits at a head is too much, by the co-op's `overload` policy:
//   block        those who relay wait for credit; nothing is ever too much
//   shed         ... are refused instead, also while max_queue is exceeded
//   drop_oldest  they do not wait: credit goes back as data come in, and of
//                those that wait the oldest make room
//   sojourn      as block; what has waited for longer than so many
//                milliseconds is dropped when its turn comes
// Knows no process: a head asks, and does.

#pragma once

#include "coop/spec.hpp"
#include "node/message.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>

namespace esp::coop {

// Of one head, on its fiber. Only data that came with credit are counted, and
// of those none that were relayed with high priority.
class overload {
public:
  overload(overload_policy p, std::size_t max_data, std::size_t max_bytes)
      : policy_(p), max_data_(max_data), max_bytes_(max_bytes) {}

  bool looks_at_arrivals() const noexcept {
    return policy_.how != overload_policy::kind::block;
  }
  bool drops_oldest() const noexcept {
    return policy_.how == overload_policy::kind::drop_oldest;
  }
  // What a relaying VM does without credit: block | shed.
  atom rule() const;
  term describe() const;

  void came(node::message& m) noexcept;
  void leaves(const node::message& m) noexcept;
  // One alone never is, however large.
  bool is_too_much(std::size_t queued) const noexcept {
    return queued > max_data_ || (data_ > 1 && bytes_ > max_bytes_);
  }
  // Of sojourn: has waited for too long.
  bool is_late(const node::message& m) const noexcept;
  // Of shed: what those who relay are to be told, when that has changed. They
  // may relay again when the queue is down to half of what may wait.
  std::optional<bool> news(std::size_t queued) noexcept;
  bool is_over() const noexcept { return is_over_; }

private:
  const overload_policy policy_;
  const std::size_t max_data_, max_bytes_;
  std::size_t data_ = 0, bytes_ = 0; // that are counted
  bool is_over_ = false;
};

} // namespace esp::coop
