#include "esp/term.hpp"

#include "term/atom_table.hpp"
#include "term/block.hpp"
#include "term/print.hpp"
#include "term/read.hpp"
#include "term/scan.hpp"
#include "term/slicer.hpp"

#include <cstring>
#include <stdexcept>

namespace esp {

using etf::form;
using etf::head;
using etf::interned;

namespace {

head head_of(const term& t) noexcept {
  return etf::read(etf::strip(t.bytes().data()));
}

std::string_view text_of(const head& h) noexcept {
  return base::as_text({h.body, static_cast<std::size_t>(h.count)});
}

} // namespace

term::term() noexcept {
  set_nil();
}

result<term> term::decode(std::span<const std::byte> external) {
  return etf::decode_external(external, {});
}

std::vector<std::byte> term::encode() const {
  const auto b = bytes();
  std::vector<std::byte> out(1 + b.size());
  out[0] = std::byte{etf::version_magic};
  std::memcpy(out.data() + 1, b.data(), b.size());
  return out;
}

kind term::kind() const noexcept {
  return etf::kind_of(head_of(*this).what);
}

bool term::is_atom(std::string_view name) const noexcept {
  const head h = head_of(*this);
  return h.what == form::atom && !h.name.is_latin1 && h.name.text == name;
}

bool term::is_tagged(std::string_view tag, std::size_t arity) const noexcept {
  const head h = head_of(*this);
  if (h.what != form::tuple || h.count != arity || arity == 0) {
    return false;
  }
  const head first = etf::read(etf::strip(h.next));
  return first.what == form::atom && !first.name.is_latin1
         && first.name.text == tag;
}

std::optional<std::int64_t> term::as_integer() const noexcept {
  const head h = head_of(*this);
  return h.what == form::integer ? std::optional(h.integer) : std::nullopt;
}

std::optional<double> term::as_floating() const noexcept {
  const head h = head_of(*this);
  return h.what == form::floating ? std::optional(h.floating) : std::nullopt;
}

std::optional<atom> term::as_atom() const {
  const head h = head_of(*this);
  return h.what == form::atom ? interned(h.name) : std::nullopt;
}

std::optional<std::string_view> term::as_atom_name() const noexcept {
  const head h = head_of(*this);
  if (h.what != form::atom || h.name.is_latin1) {
    return std::nullopt;
  }
  return h.name.text;
}

std::optional<std::string_view> term::as_binary() const noexcept {
  const head h = head_of(*this);
  return h.what == form::binary ? std::optional(text_of(h)) : std::nullopt;
}

std::optional<std::string> term::as_iodata() const {
  head h = head_of(*this);
  if (h.what == form::binary) {
    return std::string(text_of(h));
  }
  std::string out;
  for (;; h = etf::read(etf::strip(h.next))) { // from each tail to the next
    switch (h.what) {
    case form::nil:
      return out;
    case form::string:
      return out.append(text_of(h)); // its tail is []
    case form::list:
      break;
    default:
      return std::nullopt;
    }
    const std::uint64_t n = h.count;
    for (std::uint64_t i = 0; i < n; ++i) {
      h = etf::read(etf::strip(h.next));
      if (h.what != form::integer || h.integer < 0 || h.integer > 255) {
        return std::nullopt;
      }
      out.push_back(static_cast<char>(h.integer));
    }
  }
}

std::optional<esp::pid> term::as_pid() const {
  return etf::pid_of(head_of(*this));
}

std::optional<esp::ref> term::as_ref() const {
  return etf::ref_of(head_of(*this));
}

std::optional<esp::port> term::as_port() const {
  return etf::port_of(head_of(*this));
}

std::size_t term::arity() const noexcept {
  const head h = head_of(*this);
  return h.what == form::tuple || h.what == form::map
             ? static_cast<std::size_t>(h.count)
             : 0;
}

term term::slice(const std::byte* from, const std::byte* to) const {
  const auto size = static_cast<std::size_t>(to - from);
  detail::block* b = owner();
  if (b == nullptr || size <= near_capacity) {
    return copy_of({from, size});
  }
  detail::retain(b);
  return adopt(b, from, static_cast<std::uint32_t>(size));
}

term term::element(std::size_t i) const {
  const head h = head_of(*this);
  if (h.what != form::tuple || i >= h.count) {
    throw std::out_of_range("no such element of a tuple");
  }
  const std::byte* p = h.next;
  for (; i > 0; --i) {
    p = etf::skip(p);
  }
  return slice(p, etf::skip(p));
}

std::vector<term> term::elements() const {
  const head h = head_of(*this);
  std::vector<term> out;
  if (h.what != form::tuple) {
    return out;
  }
  out.reserve(static_cast<std::size_t>(h.count));
  const std::byte* p = h.next;
  for (std::uint64_t i = 0; i < h.count; ++i) {
    const std::byte* end = etf::skip(p);
    out.push_back(slice(p, end));
    p = end;
  }
  return out;
}

std::optional<std::vector<term>> term::as_list() const {
  std::vector<term> out;
  const std::byte* p = bytes().data();
  for (;;) {
    const head h = etf::read(etf::strip(p));
    switch (h.what) {
    case form::nil:
      return out;
    case form::string:
      for (const char c : text_of(h)) {
        out.push_back(integer(static_cast<unsigned char>(c)));
      }
      return out;
    case form::list:
      break;
    default:
      return std::nullopt;
    }
    p = h.next;
    out.reserve(out.size() + static_cast<std::size_t>(h.count));
    for (std::uint64_t i = 0; i < h.count; ++i) {
      const std::byte* end = etf::skip(p);
      out.push_back(slice(p, end));
      p = end;
    }
  }
}

std::optional<term> term::get(const term& key) const {
  const head h = head_of(*this);
  const auto wanted = key.bytes();
  const std::byte* p = h.next;
  for (std::uint64_t i = 0; h.what == form::map && i < h.count; ++i) {
    const std::byte* value = etf::skip(p);
    const std::span found(p, value);
    const bool same = found.size() == wanted.size()
                      && std::memcmp(p, wanted.data(), wanted.size()) == 0;
    const std::byte* end = etf::skip(value);
    if (same || etf::equal(p, wanted.data())) {
      return slice(value, end);
    }
    p = end;
  }
  return std::nullopt;
}

std::optional<term> term::get(std::string_view atom_key) const {
  const head h = head_of(*this);
  const std::byte* p = h.next;
  for (std::uint64_t i = 0; h.what == form::map && i < h.count; ++i) {
    const head k = etf::read(etf::strip(p));
    const std::byte* value = etf::skip(p);
    const std::byte* end = etf::skip(value);
    if (k.what == form::atom && !k.name.is_latin1 && k.name.text == atom_key) {
      return slice(value, end);
    }
    p = end;
  }
  return std::nullopt;
}

std::vector<std::pair<term, term>> term::pairs() const {
  const head h = head_of(*this);
  std::vector<std::pair<term, term>> out;
  if (h.what != form::map) {
    return out;
  }
  out.reserve(static_cast<std::size_t>(h.count));
  const std::byte* p = h.next;
  for (std::uint64_t i = 0; i < h.count; ++i) {
    const std::byte* value = etf::skip(p);
    const std::byte* end = etf::skip(value);
    out.emplace_back(slice(p, value), slice(value, end));
    p = end;
  }
  return out;
}

bool operator==(const term& a, const term& b) noexcept {
  const auto x = a.bytes();
  const auto y = b.bytes();
  return (x.size() == y.size()
          && std::memcmp(x.data(), y.data(), x.size()) == 0)
         || etf::equal(x.data(), y.data());
}

std::size_t term::hash() const noexcept {
  return etf::hash(bytes());
}

std::string term::to_string(std::size_t limit) const {
  return etf::print(bytes().data(), limit);
}

term term::adopt(detail::block* owner, const std::byte* data,
                 std::uint32_t size) noexcept {
  term t;
  if (size <= near_capacity) {
    std::memcpy(t.raw_, data, size);
    t.raw_[near_capacity] = static_cast<std::byte>(size);
    detail::release(owner);
    return t;
  }
  std::memcpy(t.raw_, &owner, sizeof owner);
  std::memcpy(t.raw_ + 8, &data, sizeof data);
  std::memcpy(t.raw_ + 16, &size, sizeof size);
  t.raw_[near_capacity] = std::byte{0};
  return t;
}

term term::copy_of(std::span<const std::byte> accepted) {
  if (accepted.size() <= near_capacity) {
    term t;
    std::memcpy(t.raw_, accepted.data(), accepted.size());
    t.raw_[near_capacity] = static_cast<std::byte>(accepted.size());
    return t;
  }
  detail::block* b = detail::make_block(accepted.size());
  std::memcpy(b->data(), accepted.data(), accepted.size());
  return adopt(b, b->data(), b->size);
}

} // namespace esp

std::size_t std::hash<esp::pid>::operator()(const esp::pid& p) const noexcept {
  return esp::etf::mix(p.node.index() ^ (std::uint64_t{p.creation} << 32),
                       p.id ^ (std::uint64_t{p.serial} << 32));
}

std::size_t std::hash<esp::ref>::operator()(const esp::ref& r) const noexcept {
  std::uint64_t h = esp::etf::mix(r.node.index(),
                                  r.creation ^ (std::uint64_t{r.count} << 32));
  for (const std::uint32_t word : r.words) {
    h = esp::etf::mix(h, word);
  }
  return h;
}

std::size_t
std::hash<esp::port>::operator()(const esp::port& p) const noexcept {
  return esp::etf::mix(p.node.index() ^ (std::uint64_t{p.creation} << 32),
                       p.id);
}
