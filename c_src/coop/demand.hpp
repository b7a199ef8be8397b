// How many results the process behind {demand, Pid} has asked for and not had,
// and which nodes of the last tier have some. Knows no process.

#pragma once

#include "esp/term.hpp"

#include <algorithm>
#include <cstdint>
#include <deque>
#include <limits>
#include <utility>
#include <vector>

namespace esp::coop {

class demand {
public:
  struct grant {
    pid to;
    std::uint32_t edge;
    std::uint64_t units;
  };

  // So many more are asked for.
  void ask(std::uint64_t n) noexcept {
    asked_ += std::min(n, std::numeric_limits<std::uint64_t>::max() - asked_);
  }
  // The one who asked is gone: what it is sent is gone at once.
  void lose() noexcept { is_lost_ = true; }
  // A node of the last tier has so many more ready.
  void want(const pid& node, std::uint32_t edge, std::uint64_t n);

  // Its nodes are others now: what those had ready has gone with them, and what
  // they were granted beyond those `delivered` (modulo 2^32, as a VM counts) is
  // asked for again.
  void again(std::uint64_t delivered) noexcept {
    wants_.clear();
    ask((std::exchange(granted_, 0) - delivered) & 0xFFFFFFFF);
  }

  // What may be sent now: as many as a node has ready, at most. Those that want
  // share what was asked for, in turn.
  std::vector<grant> serve();

  // #{asked, ready}: what is not there yet, and what is not asked for yet.
  term describe() const;

private:
  std::uint64_t asked_ = 0, granted_ = 0; // the latter to the nodes there are
  bool is_lost_ = false;
  std::deque<grant> wants_;
};

} // namespace esp::coop
