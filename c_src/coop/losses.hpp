// What has become of data that were inside a body which was made again and are
// not in the next one, and how many results it has delivered by demand: #{lost
// => N, dead_lettered => N, delivered => N}, where 0 may be left out.

#pragma once

#include "esp/term.hpp"

#include <cstdint>
#include <optional>

namespace esp::coop {

struct losses {
  std::uint64_t lost = 0, dead_lettered = 0, delivered = 0;

  losses& operator+=(const losses& o) noexcept {
    lost += o.lost;
    dead_lettered += o.dead_lettered;
    delivered += o.delivered;
    return *this;
  }

  term describe() const; // for users, without what was delivered
  term write() const;
  static std::optional<losses> read(const term& t); // none: it is no such map
};

} // namespace esp::coop
