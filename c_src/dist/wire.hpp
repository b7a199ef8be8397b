// Big-endian numbers in and out of byte sequences, bounded. For the files of
// this room.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace esp::dist {

// Reads from the front of a span. A read past the end gives zero or nothing
// and leaves is_short() true for good, so that a run of reads needs one check.
class reader {
public:
  explicit reader(std::span<const std::byte> bytes) noexcept : left_(bytes) {}

  std::uint8_t u8() noexcept { return number<std::uint8_t>(); }
  std::uint16_t u16() noexcept { return number<std::uint16_t>(); }
  std::uint32_t u32() noexcept { return number<std::uint32_t>(); }
  std::uint64_t u64() noexcept { return number<std::uint64_t>(); }

  std::span<const std::byte> take(std::size_t count) noexcept {
    if (count > left_.size()) {
      is_short_ = true;
      left_ = {};
      return {};
    }
    auto taken = left_.first(count);
    left_ = left_.subspan(count);
    return taken;
  }
  std::string_view text(std::size_t count) noexcept {
    auto taken = take(count);
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }

  std::span<const std::byte> rest() const noexcept { return left_; }
  bool is_empty() const noexcept { return left_.empty(); }
  bool is_short() const noexcept { return is_short_; }

private:
  template <class Number>
  Number number() noexcept {
    auto bytes = take(sizeof(Number));
    std::uint64_t n = 0;
    for (std::byte b : bytes) {
      n = n << 8 | std::to_integer<std::uint64_t>(b);
    }
    return static_cast<Number>(n);
  }

  std::span<const std::byte> left_;
  bool is_short_ = false;
};

inline std::span<const std::byte> as_bytes(std::string_view text) noexcept {
  return std::as_bytes(std::span{text.data(), text.size()});
}

inline std::string_view as_text(std::span<const std::byte> bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

template <class Number>
void store(std::byte* at, Number n) noexcept {
  for (std::size_t i = sizeof n; i-- > 0;) {
    at[i] = static_cast<std::byte>(n);
    n = static_cast<Number>(std::uint64_t{n} >> 8);
  }
}

// The type of the number is the width on the wire: put(out, std::uint16_t{6}).
template <class Number>
void put(std::vector<std::byte>& out, Number n) {
  std::byte bytes[sizeof n];
  store(bytes, n);
  out.insert(out.end(), bytes, bytes + sizeof n);
}

inline void put(std::vector<std::byte>& out, std::span<const std::byte> bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

inline void put(std::vector<std::byte>& out, std::string_view text) {
  put(out, as_bytes(text));
}

} // namespace esp::dist
