// Bytes for tests, written as hex digits or text.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace test {

using bytes = std::vector<std::byte>;

// Blanks are left out: hex("83 44 00").
inline bytes hex(std::string_view digits) {
  bytes out;
  unsigned high = 16;
  for (char c : digits) {
    if (c == ' ') {
      continue;
    }
    auto value =
        static_cast<unsigned>(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    if (high == 16) {
      high = value;
    } else {
      out.push_back(static_cast<std::byte>(high << 4 | value));
      high = 16;
    }
  }
  return out;
}

inline bytes text(std::string_view s) {
  auto b = std::as_bytes(std::span{s.data(), s.size()});
  return {b.begin(), b.end()};
}

template <class... More>
bytes join(bytes first, const More&... more) {
  (first.insert(first.end(), more.begin(), more.end()), ...);
  return first;
}

// Big-endian, in `width` bytes.
inline bytes number(std::uint64_t n, std::size_t width) {
  bytes out(width);
  for (std::size_t i = width; i-- > 0; n >>= 8) {
    out[i] = static_cast<std::byte>(n);
  }
  return out;
}

// With its length in front, as frames and handshake packets have.
inline bytes packet(const bytes& body, std::size_t width) {
  return join(number(body.size(), width), body);
}

} // namespace test
