#include "dist/elements.hpp"

#include "base/bytes.hpp"

#include <string>
#include <utility>

namespace esp::dist {

namespace {

result<atom> to_atom(const etf::atom_bytes& name) {
  if (!name.is_latin1) {
    return atom::intern(name.text);
  }
  std::string utf8;
  for (char c : name.text) {
    auto code = static_cast<unsigned char>(c);
    if (code < 0x80) {
      utf8 += c;
    } else {
      utf8 += static_cast<char>(0xC0 | code >> 6);
      utf8 += static_cast<char>(0x80 | (code & 0x3F));
    }
  }
  return atom::intern(utf8);
}

} // namespace

pid elements::take_pid() {
  etf::head h = next("pid");
  if (!is(h, etf::form::pid, "pid")) {
    return {};
  }
  return {.node = interned(h.name),
          .id = static_cast<std::uint32_t>(h.id),
          .serial = h.serial,
          .creation = h.creation};
}

ref elements::take_ref() {
  etf::head h = next("reference");
  if (!is(h, etf::form::ref, "reference")) {
    return {};
  }
  ref r;
  if (h.count == 0 || h.count > r.words.size()) {
    fail("reference of 1 to 5 words");
    return {};
  }
  r.node = interned(h.name);
  r.creation = h.creation;
  r.count = static_cast<std::uint8_t>(h.count);
  for (std::size_t i = 0; i < h.count; ++i) {
    r.words[i] = base::load_be<std::uint32_t>(h.body + 4 * i);
  }
  return r;
}

atom elements::take_atom() {
  etf::head h = next("atom");
  return is(h, etf::form::atom, "atom") ? interned(h.name) : atom{};
}

pid_or_name elements::take_pid_or_name() {
  if (left_ != 0 && etf::read(at_).what == etf::form::atom) {
    return take_atom();
  }
  return take_pid();
}

std::uint64_t elements::take_bits(bool& is_exact) {
  etf::head h = next("integer");
  is_exact = true;
  if (h.what == etf::form::integer && h.integer >= 0) {
    return static_cast<std::uint64_t>(h.integer);
  }
  if (h.what != etf::form::big || h.is_negative) {
    fail("integer that is not negative");
    return 0;
  }
  is_exact = h.count <= 8;
  std::uint64_t n = 0;
  for (std::size_t i = 0; i < h.count && i < 8; ++i) {
    n |= std::to_integer<std::uint64_t>(h.body[i]) << (8 * i);
  }
  return n;
}

std::uint64_t elements::take_unsigned() {
  bool is_exact = true;
  auto n = take_bits(is_exact);
  if (!is_exact) {
    fail("integer of 64 bits");
  }
  return n;
}

std::span<const std::byte> elements::take_any() {
  const std::byte* from = at_;
  if (left_ == 0) {
    fail("another element");
    return {};
  }
  --left_;
  at_ = etf::skip(at_);
  return {from, at_};
}

void elements::enter_tuple(std::size_t count) {
  etf::head h = next("tuple");
  if (h.what != etf::form::tuple || h.count != count) {
    fail("tuple of " + std::to_string(count));
    return;
  }
  left_ += count;
}

void elements::fail(std::string_view wanted) {
  fail(esp::error{errc::malformed, "expected " + std::string{wanted}});
}

void elements::fail(esp::error e) {
  if (!has_failed_) {
    has_failed_ = true;
    error_ = std::move(e);
  }
  left_ = 0;
}

etf::head elements::next(std::string_view wanted) {
  if (left_ == 0) {
    fail(wanted);
    return {};
  }
  --left_;
  etf::head h = etf::read(at_);
  at_ = h.next; // of a tuple its first element: see enter_tuple()
  return h;
}

bool elements::is(const etf::head& h, etf::form wanted, std::string_view text) {
  if (!has_failed_ && h.what != wanted) {
    fail(text);
  }
  return !has_failed_;
}

atom elements::interned(const etf::atom_bytes& name) {
  auto a = to_atom(name);
  if (!a) {
    fail(a.error());
    return {};
  }
  return *a;
}

std::optional<std::uint64_t> proper_length(const std::byte* at) {
  std::uint64_t length = 0;
  for (;;) {
    etf::head h = etf::read(etf::strip(at));
    switch (h.what) {
    case etf::form::nil:
      return length;
    case etf::form::string:
      return length + h.count;
    case etf::form::list:
      length += h.count;
      at = h.next;
      for (std::uint64_t i = 0; i < h.count; ++i) {
        at = etf::skip(at);
      }
      break;
    default:
      return std::nullopt;
    }
  }
}

} // namespace esp::dist
