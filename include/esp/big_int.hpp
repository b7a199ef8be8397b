// An Erlang integer of any size, as a value to carry and compare. It does no
// arithmetic: a task that calculates brings a library of its own and uses the
// magnitude.

#pragma once

#include "esp/term.hpp"

#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace esp {

class ESP_API big_int {
public:
  big_int() = default; // 0
  big_int(std::int64_t v);
  static big_int from_unsigned(std::uint64_t v);
  // `magnitude`: the absolute value, least significant byte first.
  big_int(std::span<const std::byte> magnitude, bool negative);

  bool is_negative() const noexcept { return negative_; }
  // Without zeros at its end; empty for 0.
  std::span<const std::byte> magnitude() const noexcept { return magnitude_; }
  std::optional<std::int64_t> to_int64() const noexcept; // none: does not fit
  std::optional<std::uint64_t> to_uint64() const noexcept;
  std::string to_string() const; // decimal

  friend bool operator==(const big_int&, const big_int&) = default;
  friend ESP_API std::strong_ordering operator<=>(const big_int& a,
                                                  const big_int& b) noexcept;

private:
  std::vector<std::byte> magnitude_;
  bool negative_ = false;
};

} // namespace esp
