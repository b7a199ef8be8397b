#include "match/parts.hpp"

#include "term/tags.hpp"

#include <array>

namespace esp::match {

namespace {

// What the bytes of a string would be as elements of a list.
using small = std::array<std::byte, 2>;
constexpr std::array<small, 256> make_bytes() {
  std::array<small, 256> all{};
  for (std::size_t i = 0; i < all.size(); ++i)
    all[i] = {std::byte{etf::tag::small_integer}, static_cast<std::byte>(i)};
  return all;
}
constexpr std::array<small, 256> bytes = make_bytes();
constexpr std::byte nil[] = {std::byte{etf::tag::nil}};

} // namespace

list_parts::list_parts(place p) : tail(etf::strip(p)) {
  for (;;) {
    const etf::head h = etf::read(tail);
    if (h.what == etf::form::string) {
      for (std::uint64_t i = 0; i < h.count; ++i)
        elements.push_back(
            bytes[std::to_integer<std::size_t>(h.body[i])].data());
      tail = nil;
      return;
    }
    if (h.what != etf::form::list)
      return;
    place next = h.next;
    for (std::uint64_t i = 0; i < h.count; ++i) {
      elements.push_back(etf::strip(next));
      next = etf::skip(next);
    }
    tail = etf::strip(next);
  }
}

std::vector<place> children_of(const etf::head& h) {
  std::vector<place> all;
  place next = h.next;
  const auto n = h.what == etf::form::map ? 2 * h.count : h.count;
  all.reserve(n);
  for (std::uint64_t i = 0; i < n; ++i) {
    all.push_back(etf::strip(next));
    next = etf::skip(next);
  }
  return all;
}

std::int64_t variable_of(const etf::head& h) noexcept {
  constexpr std::size_t most_digits = 9;
  if (h.what != etf::form::atom)
    return -1;
  const std::string_view name = h.name.text;
  if (name == "_")
    return any;
  if (name.size() < 2 || name.size() > 1 + most_digits || name[0] != '$')
    return -1;
  std::int64_t n = 0;
  for (const char c : name.substr(1)) {
    if (c < '0' || c > '9')
      return -1;
    n = 10 * n + (c - '0');
  }
  return n;
}

} // namespace esp::match
