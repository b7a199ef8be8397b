// The reading half of codec.hpp. A term's bytes have passed the walk, so
// libei may see them; what it does not know, such as numbers with zeros in
// front, is read here.

#include "esp/codec.hpp"

#include "term/atom_table.hpp"
#include "term/block.hpp"
#include "term/read.hpp"

#include <ei.h>

#include <algorithm>

namespace esp {

using etf::form;
using etf::head;

namespace {

head head_at(const std::byte* p, int byte) noexcept {
  if (byte < 0) {
    return etf::read(etf::strip(p));
  }
  head h;
  h.what = form::integer;
  h.integer = byte;
  h.next = p;
  return h;
}

const char* chars(const std::byte* p) noexcept {
  return reinterpret_cast<const char*>(p);
}

} // namespace

kind decoder::peek() const noexcept {
  return etf::kind_of(head_at(p_, byte_).what);
}

bool decoder::integer(std::int64_t& v) noexcept {
  if (byte_ >= 0) {
    v = byte_;
    byte_ = -1;
    return true;
  }
  const std::uint8_t t = etf::tag_at(p_);
  if (t == etf::tag::small_integer || t == etf::tag::integer
      || t == etf::tag::small_big) {
    int n = 0;
    long long found = 0;
    if (ei_decode_longlong(chars(p_), &n, &found) == 0) {
      p_ += n;
      v = found;
      return true;
    }
  }
  const head h = head_at(p_, byte_);
  if (h.what != form::integer) {
    return false;
  }
  v = h.integer;
  p_ = h.next;
  return true;
}

bool decoder::integer_unsigned(std::uint64_t& v) noexcept {
  const head h = head_at(p_, byte_);
  if (h.what == form::integer && h.integer >= 0) {
    v = static_cast<std::uint64_t>(h.integer);
  } else if (h.what == form::big && !h.is_negative && h.count <= 8) {
    v = 0;
    for (std::uint64_t i = h.count; i-- > 0;) {
      v = (v << 8) | etf::tag_at(h.body + i);
    }
  } else {
    return false;
  }
  p_ = h.next;
  byte_ = -1;
  return true;
}

std::optional<big_int> decoder::integer_big() {
  const head h = head_at(p_, byte_);
  std::optional<big_int> v;
  if (h.what == form::integer) {
    v.emplace(h.integer);
  } else if (h.what == form::big) {
    v.emplace(std::span(h.body, static_cast<std::size_t>(h.count)),
              h.is_negative);
  } else {
    return v;
  }
  p_ = h.next;
  byte_ = -1;
  return v;
}

bool decoder::floating(double& v) noexcept {
  if (byte_ < 0 && etf::tag_at(p_) == etf::tag::new_float) {
    int n = 0;
    if (ei_decode_double(chars(p_), &n, &v) == 0) {
      p_ += n;
      return true;
    }
  }
  const head h = head_at(p_, byte_);
  if (h.what != form::floating) {
    return false;
  }
  v = h.floating;
  p_ = h.next;
  return true;
}

std::optional<atom> decoder::atom() {
  if (byte_ >= 0) {
    return std::nullopt;
  }
  const head h = head_at(p_, byte_);
  std::optional<esp::atom> a;
  if (h.what == form::atom) {
    a = etf::interned(h.name);
  }
  if (a) {
    p_ = h.next;
  }
  return a;
}

std::optional<std::string_view> decoder::atom_name() noexcept {
  const head h = head_at(p_, byte_);
  if (h.what != form::atom || h.name.is_latin1) {
    return std::nullopt;
  }
  p_ = h.next;
  return h.name.text;
}

bool decoder::is_atom(std::string_view name) noexcept {
  const head h = head_at(p_, byte_);
  if (h.what != form::atom || h.name.is_latin1 || h.name.text != name) {
    return false;
  }
  p_ = h.next;
  return true;
}

bool decoder::text(std::string& v) {
  const head h = head_at(p_, byte_);
  if (h.what == form::binary) {
    v.assign(chars(h.body), static_cast<std::size_t>(h.count));
    p_ = h.next;
    return true;
  }
  const mark start = here();
  list_state l;
  if (!enter(l)) {
    return false;
  }
  v.clear();
  v.reserve(static_cast<std::size_t>(l.hint));
  while (next(l)) {
    std::int64_t c = 0;
    if (!integer(c) || c < 0 || c > 255) {
      back_to(start);
      return false;
    }
    v.push_back(static_cast<char>(c));
  }
  if (!l.proper) {
    back_to(start);
  }
  return l.proper;
}

bool decoder::bytes(esp::binary& v) {
  const head h = head_at(p_, byte_);
  if (h.what != form::binary) {
    return false;
  }
  v.assign(h.body, h.body + h.count);
  p_ = h.next;
  return true;
}

std::optional<pid> decoder::pid() {
  const head h = head_at(p_, byte_);
  auto v = etf::pid_of(h);
  if (v) {
    p_ = h.next;
  }
  return v;
}

std::optional<ref> decoder::ref() {
  const head h = head_at(p_, byte_);
  auto v = etf::ref_of(h);
  if (v) {
    p_ = h.next;
  }
  return v;
}

std::optional<port> decoder::port() {
  const head h = head_at(p_, byte_);
  auto v = etf::port_of(h);
  if (v) {
    p_ = h.next;
  }
  return v;
}

bool decoder::tuple(std::size_t& elements) noexcept {
  const head h = head_at(p_, byte_);
  if (h.what != form::tuple) {
    return false;
  }
  elements = static_cast<std::size_t>(h.count);
  p_ = h.next;
  return true;
}

bool decoder::map(std::size_t& pairs) noexcept {
  const head h = head_at(p_, byte_);
  if (h.what != form::map) {
    return false;
  }
  pairs = static_cast<std::size_t>(h.count);
  p_ = h.next;
  return true;
}

term decoder::value() {
  if (byte_ >= 0) {
    const term t = term::integer(byte_);
    byte_ = -1;
    return t;
  }
  const std::byte* from = p_;
  p_ = etf::skip(p_);
  const auto size = static_cast<std::size_t>(p_ - from);
  detail::block* b = of_->owner();
  if (b == nullptr) {
    return term::copy_of({from, size});
  }
  detail::retain(b);
  return term::adopt(b, from, static_cast<std::uint32_t>(size));
}

void decoder::skip() noexcept {
  if (byte_ >= 0) {
    byte_ = -1;
  } else {
    p_ = etf::skip(p_);
  }
}

bool decoder::enter(list_state& l) noexcept {
  const head h = head_at(p_, byte_);
  l = {};
  switch (h.what) {
  case form::nil:
    p_ = h.next;
    l.in_string = true; // ends at once, and properly
    return true;
  case form::string:
    p_ = h.body;
    l.in_string = true;
    break;
  case form::list:
    p_ = h.next;
    break;
  default:
    return false;
  }
  l.left = l.hint = h.count;
  return true;
}

bool decoder::next(list_state& l) noexcept {
  while (l.left == 0) {
    if (l.in_string) {
      l.proper = true;
      return false;
    }
    const head h = head_at(p_, -1);
    if (h.what == form::nil) {
      p_ = h.next;
      l.proper = true;
      return false;
    }
    if (h.what != form::list && h.what != form::string) {
      return false;
    }
    l.in_string = h.what == form::string;
    p_ = l.in_string ? h.body : h.next;
    l.left = h.count;
  }
  --l.left;
  if (l.in_string) {
    byte_ = etf::tag_at(p_++);
  }
  return true;
}

error detail::no_such_value(const term& t) {
  return {errc::badarg, "not of the type wanted: " + t.to_string(200)};
}

} // namespace esp
