// Bytes for tests, as numbers and characters or as hex digits.

#pragma once

#include "esp/term.hpp"

#include <concepts>
#include <cstddef>
#include <string_view>
#include <vector>

namespace test {

using bytes = std::vector<std::byte>;

inline void append(bytes& out, std::string_view text) {
  for (const char c : text) {
    out.push_back(static_cast<std::byte>(c));
  }
}
template <std::integral Int>
void append(bytes& out, Int v) {
  out.push_back(static_cast<std::byte>(v));
}
inline void append(bytes& out, const bytes& more) {
  out.insert(out.end(), more.begin(), more.end());
}

// bytes_of(131, 119, 2, "ok")
template <class... Parts>
bytes bytes_of(const Parts&... parts) {
  bytes out;
  (append(out, parts), ...);
  return out;
}

inline bytes unhex(std::string_view digits) {
  const auto value = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  bytes out;
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
    append(out, value(digits[i]) * 16 + value(digits[i + 1]));
  }
  return out;
}

inline bytes repeat(std::size_t n, const bytes& what) {
  bytes out;
  for (; n > 0; --n) {
    append(out, what);
  }
  return out;
}

// A term that must decode.
inline esp::term term_of(const bytes& external) {
  auto t = esp::term::decode(external);
  if (!t) {
    throw t.error();
  }
  return *t;
}

} // namespace test
