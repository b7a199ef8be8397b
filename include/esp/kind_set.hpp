// Sets of kinds of terms, for checks before anything runs: what one task emits
// and what the next accepts.

#pragma once

#include "esp/term.hpp"

#include <cstdint>
#include <initializer_list>

namespace esp {

class kind_set {
public:
  constexpr kind_set() = default;
  constexpr kind_set(std::initializer_list<kind> kinds) {
    for (const kind k : kinds) {
      bits_ |= bit(k);
    }
  }
  static constexpr kind_set any() {
    kind_set s;
    s.bits_ = ~std::uint32_t{0};
    return s;
  }

  constexpr bool empty() const { return bits_ == 0; }
  constexpr bool contains(kind k) const { return (bits_ & bit(k)) != 0; }
  // Some term is in both.
  constexpr bool intersects(kind_set o) const { return (bits_ & o.bits_) != 0; }

  friend constexpr kind_set operator|(kind_set a, kind_set b) {
    a.bits_ |= b.bits_;
    return a;
  }
  friend constexpr bool operator==(kind_set, kind_set) = default;

private:
  static constexpr std::uint32_t bit(kind k) {
    return std::uint32_t{1} << static_cast<unsigned>(k);
  }
  std::uint32_t bits_ = 0;
};

} // namespace esp
