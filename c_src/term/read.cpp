#include "term/read.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <string>

namespace esp::etf {
namespace {

using base::load_be;

std::string_view text(const std::byte* p, std::size_t n) noexcept {
  return {reinterpret_cast<const char*>(p), n};
}

void latin1(atom_bytes& out) noexcept {
  out.is_latin1 = std::any_of(out.text.begin(), out.text.end(),
                              [](char c) { return (c & 0x80) != 0; });
}

// The VM's own numbers for atoms, which only the verdict lets through. The
// first ones are the same in every OTP 25; the rest stay nameless.
void internal_atom(std::uint32_t number, std::string_view bytes,
                   atom_bytes& out) noexcept {
  static constexpr std::array<std::string_view, 18> first = {
      "false",
      "true",
      "_",
      "nonode@nohost",
      "$end_of_table",
      "",
      "infinity",
      "timeout",
      "normal",
      "call",
      "return",
      "throw",
      "error",
      "exit",
      "undefined",
      "nocatch",
      "undefined_function",
      "undefined_lambda"};
  out.text = number < first.size() ? first[number] : bytes;
  out.is_secret = number == secret_atom;
  out.is_nameless = number >= first.size();
}

const std::byte* bignum(const std::byte* p, std::uint64_t n, head& h) noexcept {
  const bool negative = *p++ != std::byte{0};
  h.next = p + n;
  while (n > 0 && p[n - 1] == std::byte{0}) {
    --n;
  }
  h.body = p;
  h.count = n;
  h.is_negative = negative;
  h.what = form::big;
  if (n <= 8) {
    std::uint64_t v = 0;
    for (std::uint64_t i = 0; i < n; ++i) {
      v |= std::to_integer<std::uint64_t>(p[i]) << (8 * i);
    }
    constexpr std::uint64_t top = std::uint64_t{1} << 63;
    if (negative ? v <= top : v < top) {
      h.what = form::integer;
      h.integer = static_cast<std::int64_t>(negative ? 0 - v : v);
    }
  }
  return h.next;
}

// The integer that a fun holds where only a small one is allowed.
const std::byte* small_integer(const std::byte* p, std::int64_t& v) noexcept {
  const head h = read(strip(p));
  v = h.integer;
  return h.next;
}

const std::byte* read_tail_of_pid(const std::byte* p, std::uint8_t t,
                                  head& h) noexcept {
  h.id = load_be<std::uint32_t>(p);
  h.serial = load_be<std::uint32_t>(p + 4);
  if (t == tag::pid) {
    h.creation = tag_at(p + 8);
    return p + 9;
  }
  h.creation = load_be<std::uint32_t>(p + 8);
  return p + 12;
}

const std::byte* read_tail_of_port(const std::byte* p, std::uint8_t t,
                                   head& h) noexcept {
  if (t == tag::v4_port) {
    h.id = load_be<std::uint64_t>(p);
    p += 8;
  } else {
    h.id = load_be<std::uint32_t>(p);
    p += 4;
  }
  if (t == tag::port) {
    h.creation = tag_at(p);
    return p + 1;
  }
  h.creation = load_be<std::uint32_t>(p);
  return p + 4;
}

const std::byte* read_ref(const std::byte* p, std::uint8_t t,
                          head& h) noexcept {
  h.what = form::ref;
  if (t == tag::reference) {
    p = read_atom(p, h.name);
    h.count = 1;
    h.body = p;
    h.creation = tag_at(p + 4);
    return p + 5;
  }
  h.count = load_be<std::uint16_t>(p);
  p = read_atom(p + 2, h.name);
  if (t == tag::new_reference) {
    h.creation = tag_at(p);
    p += 1;
  } else {
    h.creation = load_be<std::uint32_t>(p);
    p += 4;
  }
  h.body = p;
  // A reference of no words still has the first one: see scan.cpp.
  return p + 4 * std::max<std::uint64_t>(h.count, 1);
}

const std::byte* read_record(const std::byte* p, head& h) noexcept {
  h.what = form::record;
  h.count = load_be<std::uint32_t>(p);
  h.is_exported = p[4] != std::byte{0};
  p = read_atom(p + 5, h.name);
  p = read_atom(p, h.function);
  h.body = p; // the names of the fields
  atom_bytes field;
  for (std::uint64_t i = 0; i < h.count; ++i) {
    p = read_atom(p, field);
  }
  return p;
}

const std::byte* read_closure(const std::byte* p, head& h) noexcept {
  h.what = form::closure;
  h.serial = load_be<std::uint32_t>(p + 21); // the index
  h.count = load_be<std::uint32_t>(p + 25);
  h.body = p; // size, arity, uniq, index
  p = read_atom(p + 29, h.name);
  p = small_integer(p, h.old_index);
  return small_integer(p, h.old_uniq); // now the creator, then the variables
}

head sized(form what, const std::byte* body, std::uint64_t count) noexcept {
  head h;
  h.what = count == 0 && what == form::string ? form::nil : what;
  h.body = body;
  h.count = count;
  h.next = body + count;
  return h;
}

head container(form what, const std::byte* next, std::uint64_t count) noexcept {
  head h;
  h.what = what;
  h.next = next;
  h.count = count;
  return h;
}

} // namespace

std::string utf8_of(const atom_bytes& a) {
  if (!a.is_latin1) {
    return std::string(a.text);
  }
  std::string out;
  for (const char c : a.text) {
    const auto u = static_cast<unsigned char>(c);
    if (u < 0x80) {
      out += c;
    } else {
      out += static_cast<char>(0xC0 | (u >> 6));
      out += static_cast<char>(0x80 | (u & 0x3F));
    }
  }
  return out;
}

std::optional<atom> interned(const atom_bytes& a) {
  const auto r = a.is_latin1 ? atom::intern(utf8_of(a)) : atom::intern(a.text);
  return r ? std::optional(*r) : std::nullopt;
}

const std::byte* read_atom(const std::byte* p, atom_bytes& out) noexcept {
  out = {};
  switch (tag_at(p)) {
  case tag::small_atom_utf8:
    out.text = text(p + 2, tag_at(p + 1));
    return p + 2 + out.text.size();
  case tag::atom_utf8:
    out.text = text(p + 3, load_be<std::uint16_t>(p + 1));
    return p + 3 + out.text.size();
  case tag::small_atom:
    out.text = text(p + 2, tag_at(p + 1));
    latin1(out);
    return p + 2 + out.text.size();
  case tag::atom:
    out.text = text(p + 3, load_be<std::uint16_t>(p + 1));
    latin1(out);
    return p + 3 + out.text.size();
  case tag::atom_cache_ref:
    out.text = text(p + 1, 1);
    out.is_cached = true;
    return p + 2;
  case tag::atom_internal_ref2:
    internal_atom(load_be<std::uint16_t>(p + 1), text(p, 3), out);
    return p + 3;
  default: // atom_internal_ref3
    internal_atom(load_be<std::uint32_t>(p) & 0xFFFFFF, text(p, 4), out);
    return p + 4;
  }
}

head read(const std::byte* p) noexcept {
  head h;
  const std::uint8_t t = tag_at(p++);
  switch (t) {
  case tag::small_integer:
    h.what = form::integer;
    h.integer = tag_at(p);
    h.next = p + 1;
    return h;
  case tag::integer:
    h.what = form::integer;
    h.integer = static_cast<std::int32_t>(load_be<std::uint32_t>(p));
    h.next = p + 4;
    return h;
  case tag::small_big:
    bignum(p + 1, tag_at(p), h);
    return h;
  case tag::large_big:
    bignum(p + 4, load_be<std::uint32_t>(p), h);
    return h;
  case tag::new_float:
    h.what = form::floating;
    h.floating = std::bit_cast<double>(load_be<std::uint64_t>(p));
    h.next = p + 8;
    return h;
  case tag::float_text:
    h.what = form::floating;
    (void)read_float_text(text(p, 31), h.floating);
    h.next = p + 31;
    return h;
  case tag::binary:
    return sized(form::binary, p + 4, load_be<std::uint32_t>(p));
  case tag::bit_binary:
    h = sized(form::bits, p + 5, load_be<std::uint32_t>(p));
    h.last_bits = tag_at(p + 4);
    if (h.last_bits == 8 || h.count == 0) {
      h.what = form::binary;
    }
    return h;
  case tag::nil:
    h.next = p;
    return h;
  case tag::string:
    return sized(form::string, p + 2, load_be<std::uint16_t>(p));
  case tag::list:
    return container(form::list, p + 4, load_be<std::uint32_t>(p));
  case tag::small_tuple:
    return container(form::tuple, p + 1, tag_at(p));
  case tag::large_tuple:
    return container(form::tuple, p + 4, load_be<std::uint32_t>(p));
  case tag::map:
    return container(form::map, p + 4, load_be<std::uint32_t>(p));
  case tag::new_pid:
  case tag::pid:
    h.what = form::pid;
    h.next = read_tail_of_pid(read_atom(p, h.name), t, h);
    return h;
  case tag::v4_port:
  case tag::new_port:
  case tag::port:
    h.what = form::port;
    h.next = read_tail_of_port(read_atom(p, h.name), t, h);
    return h;
  case tag::newer_reference:
  case tag::new_reference:
  case tag::reference:
    h.next = read_ref(p, t, h);
    return h;
  case tag::export_fun:
    h.what = form::external_fun;
    p = read_atom(read_atom(p, h.name), h.function);
    h.next = small_integer(p, h.integer);
    h.integer = static_cast<std::uint32_t>(h.integer); // all that OTP keeps
    return h;
  case tag::new_fun:
    h.next = read_closure(p, h);
    return h;
  case tag::native_record:
    h.next = read_record(p, h);
    return h;
  default:
    h.what = form::atom;
    h.next = read_atom(p - 1, h.name);
    return h;
  }
}

const std::byte* skip(const std::byte* p) noexcept {
  for (std::uint64_t left = 1; left > 0; --left) {
    switch (tag_at(p)) {
    case tag::small_integer:
      p += 2;
      break;
    case tag::integer:
      p += 5;
      break;
    case tag::new_float:
      p += 9;
      break;
    case tag::nil:
      p += 1;
      break;
    case tag::small_tuple:
      left += tag_at(p + 1);
      p += 2;
      break;
    case tag::binary:
      p += 5 + load_be<std::uint32_t>(p + 1);
      break;
    case tag::small_atom_utf8:
    case tag::small_atom:
      p += 2 + tag_at(p + 1);
      break;
    default: {
      const head h = read(p);
      p = h.next;
      switch (h.what) {
      case form::list:
      case form::closure: // with its creator
        left += h.count + 1;
        break;
      case form::tuple:
      case form::record:
        left += h.count;
        break;
      case form::map:
        left += 2 * h.count;
        break;
      default:
        break;
      }
    }
    }
  }
  return p;
}

bool read_float_text(std::string_view text, double& out) noexcept {
  std::size_t i = 0;
  const auto at = [&](std::size_t k) { return k < text.size() ? text[k] : 0; };
  const auto digits = [&] {
    const std::size_t from = i;
    while (at(i) >= '0' && at(i) <= '9') {
      ++i;
    }
    return i > from;
  };
  if (at(i) == '+' || at(i) == '-') {
    ++i;
  }
  if (!digits() || (at(i) != '.' && at(i) != ',')) {
    return false;
  }
  const std::size_t point = i++;
  if (!digits()) {
    return false;
  }
  if (at(i) == 'e' || at(i) == 'E') {
    ++i;
    if (at(i) == '+' || at(i) == '-') {
      ++i;
    }
    if (!digits()) {
      return false;
    }
  }
  if (at(i) != 0) {
    return false;
  }
  try {
    std::string copy(text.substr(0, i));
    copy[point] = '.';
    // strtod() would do, but it listens to the locale.
    const char* from = copy.data() + (copy[0] == '+' ? 1 : 0);
    const auto [end, code] = std::from_chars(from, copy.data() + i, out);
    if (code == std::errc::result_out_of_range) {
      out = std::strtod(copy.c_str(), nullptr); // 0.0, a subnormal, or infinite
    }
  } catch (...) {
    return false;
  }
  return std::isfinite(out);
}

} // namespace esp::etf
