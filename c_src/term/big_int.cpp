#include "esp/big_int.hpp"

#include "term/print.hpp"

#include <algorithm>

namespace esp {
namespace {

std::vector<std::byte> bytes_of(std::uint64_t v) {
  std::vector<std::byte> out;
  for (; v != 0; v >>= 8) {
    out.push_back(static_cast<std::byte>(v & 0xff));
  }
  return out;
}

} // namespace

big_int::big_int(std::int64_t v)
    : magnitude_(bytes_of(v < 0 ? 0 - static_cast<std::uint64_t>(v)
                                : static_cast<std::uint64_t>(v))),
      negative_(v < 0) {}

big_int big_int::from_unsigned(std::uint64_t v) {
  big_int b;
  b.magnitude_ = bytes_of(v);
  return b;
}

big_int::big_int(std::span<const std::byte> magnitude, bool negative) {
  std::size_t n = magnitude.size();
  while (n > 0 && magnitude[n - 1] == std::byte{0}) {
    --n;
  }
  magnitude_.assign(magnitude.begin(),
                    magnitude.begin() + static_cast<std::ptrdiff_t>(n));
  negative_ = negative && n > 0;
}

std::optional<std::uint64_t> big_int::to_uint64() const noexcept {
  if (negative_ || magnitude_.size() > 8) {
    return std::nullopt;
  }
  std::uint64_t v = 0;
  for (std::size_t i = magnitude_.size(); i-- > 0;) {
    v = (v << 8) | std::to_integer<std::uint64_t>(magnitude_[i]);
  }
  return v;
}

std::optional<std::int64_t> big_int::to_int64() const noexcept {
  if (magnitude_.size() > 8) {
    return std::nullopt;
  }
  std::uint64_t v = 0;
  for (std::size_t i = magnitude_.size(); i-- > 0;) {
    v = (v << 8) | std::to_integer<std::uint64_t>(magnitude_[i]);
  }
  constexpr std::uint64_t top = std::uint64_t{1} << 63;
  if (negative_ ? v > top : v >= top) {
    return std::nullopt;
  }
  return static_cast<std::int64_t>(negative_ ? 0 - v : v);
}

std::string big_int::to_string() const {
  return etf::decimal(magnitude_, negative_);
}

std::strong_ordering operator<=>(const big_int& a, const big_int& b) noexcept {
  if (a.negative_ != b.negative_) {
    return b.negative_ <=> a.negative_;
  }
  auto by_size = a.magnitude_.size() <=> b.magnitude_.size();
  if (by_size == 0) {
    by_size = std::lexicographical_compare_three_way(
        a.magnitude_.rbegin(), a.magnitude_.rend(), b.magnitude_.rbegin(),
        b.magnitude_.rend());
  }
  return a.negative_ ? 0 <=> by_size : by_size;
}

} // namespace esp
