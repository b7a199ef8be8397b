// Bounded reading and growing writing of big-endian bytes, as every protocol
// of ours needs them. A reader never goes past its span: it turns bad instead,
// stays bad, and gives zeroes; check ok() once after a group of reads.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

namespace esp::base {

// An unsigned integer of any width, most significant byte first. No bounds.
template <class Int>
Int load_be(const std::byte* p) noexcept {
  static_assert(std::is_unsigned_v<Int>);
  Int v = 0;
  for (std::size_t i = 0; i < sizeof(Int); ++i) {
    v = static_cast<Int>((static_cast<std::uint64_t>(v) << 8)
                         | std::to_integer<std::uint64_t>(p[i]));
  }
  return v;
}

template <class Int>
void store_be(std::byte* p, Int v) noexcept {
  static_assert(std::is_unsigned_v<Int>);
  for (std::size_t i = 0; i < sizeof(Int); ++i) {
    p[i] = static_cast<std::byte>((v >> (8 * (sizeof(Int) - 1 - i))) & 0xff);
  }
}

inline std::span<const std::byte> as_bytes(std::string_view s) noexcept {
  return {reinterpret_cast<const std::byte*>(s.data()), s.size()};
}

inline std::string_view as_text(std::span<const std::byte> b) noexcept {
  return {reinterpret_cast<const char*>(b.data()), b.size()};
}

class reader {
public:
  explicit reader(std::span<const std::byte> bytes) noexcept
      : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  std::uint8_t u8() noexcept { return number<std::uint8_t>(); }
  std::uint16_t u16() noexcept { return number<std::uint16_t>(); }
  std::uint32_t u32() noexcept { return number<std::uint32_t>(); }
  std::uint64_t u64() noexcept { return number<std::uint64_t>(); }

  // The next `n` bytes; empty, and bad, if there are fewer.
  std::span<const std::byte> bytes(std::size_t n) noexcept {
    if (!has(n)) {
      return {};
    }
    const std::byte* p = at_;
    at_ += n;
    return {p, n};
  }
  std::string_view text(std::size_t n) noexcept { return as_text(bytes(n)); }
  std::span<const std::byte> rest() noexcept { return bytes(left()); }
  void skip(std::size_t n) noexcept { (void)bytes(n); }

  bool ok() const noexcept { return ok_; }
  bool is_done() const noexcept { return at_ == end_; }
  std::size_t left() const noexcept {
    return static_cast<std::size_t>(end_ - at_);
  }

private:
  bool has(std::size_t n) noexcept {
    ok_ = ok_ && n <= left();
    return ok_;
  }
  template <class Int>
  Int number() noexcept {
    if (!has(sizeof(Int))) {
      return 0;
    }
    const Int v = load_be<Int>(at_);
    at_ += sizeof(Int);
    return v;
  }

  const std::byte* at_;
  const std::byte* end_;
  bool ok_ = true;
};

// Appends to a vector that the caller owns.
class writer {
public:
  explicit writer(std::vector<std::byte>& out) noexcept : out_(out) {}

  void u8(std::uint8_t v) { out_.push_back(std::byte{v}); }
  void u16(std::uint16_t v) { number(v); }
  void u32(std::uint32_t v) { number(v); }
  void u64(std::uint64_t v) { number(v); }
  void bytes(std::span<const std::byte> b) {
    out_.insert(out_.end(), b.begin(), b.end());
  }
  void text(std::string_view s) { bytes(as_bytes(s)); }

  std::size_t size() const noexcept { return out_.size(); }
  // Overwrites a number written before, such as a length known only now.
  void patch_u16(std::size_t at, std::uint16_t v) noexcept {
    store_be(out_.data() + at, v);
  }
  void patch_u32(std::size_t at, std::uint32_t v) noexcept {
    store_be(out_.data() + at, v);
  }

private:
  template <class Int>
  void number(Int v) {
    const std::size_t had = out_.size();
    out_.resize(had + sizeof(Int));
    store_be(out_.data() + had, v);
  }

  std::vector<std::byte>& out_;
};

} // namespace esp::base
