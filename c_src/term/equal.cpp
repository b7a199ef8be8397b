// Erlang's =:= over accepted bytes, without recursion: a term from a peer may
// be 10,000 deep, and fibers have small stacks.

#include "term/atom_table.hpp"
#include "term/read.hpp"
#include "term/scan.hpp"

#include <algorithm>
#include <cstring>
#include <tuple>
#include <utility>
#include <vector>

namespace esp::etf {
namespace {

using base::load_be;

bool equal_atoms(const atom_bytes& a, const atom_bytes& b) noexcept {
  if (a.is_latin1 == b.is_latin1) {
    return a.is_cached == b.is_cached && a.is_nameless == b.is_nameless
           && a.text == b.text;
  }
  const std::string_view latin1 = a.is_latin1 ? a.text : b.text;
  const std::string_view utf8 = a.is_latin1 ? b.text : a.text;
  std::size_t at = 0;
  const auto is_next = [&](unsigned c) {
    return at < utf8.size() && static_cast<unsigned char>(utf8[at++]) == c;
  };
  for (const char c : latin1) {
    const auto u = static_cast<unsigned char>(c);
    if (u < 0x80 ? !is_next(u)
                 : !is_next(0xC0u | (u >> 6)) || !is_next(0x80u | (u & 0x3F))) {
      return false;
    }
  }
  return at == utf8.size();
}

bool equal_bytes(const head& a, const head& b, std::uint64_t n) noexcept {
  return std::memcmp(a.body, b.body, n) == 0;
}

bool equal_refs(const head& a, const head& b) noexcept {
  if (a.creation != b.creation || !equal_atoms(a.name, b.name)) {
    return false;
  }
  const auto word = [](const head& h, std::uint64_t i) {
    return i < h.count ? load_be<std::uint32_t>(h.body + 4 * i) : 0u;
  };
  for (std::uint64_t i = 0; i < std::max(a.count, b.count); ++i) {
    if (word(a, i) != word(b, i)) {
      return false;
    }
  }
  return true;
}

bool equal_bits(const head& a, const head& b) noexcept {
  if (a.count != b.count || a.last_bits != b.last_bits
      || !equal_bytes(a, b, a.count - 1)) {
    return false;
  }
  const int unused = 8 - a.last_bits;
  return tag_at(a.body + a.count - 1) >> unused
         == tag_at(b.body + b.count - 1) >> unused;
}

bool equal_field_names(const head& a, const head& b) noexcept {
  const std::byte* pa = a.body;
  const std::byte* pb = b.body;
  for (std::uint64_t i = 0; i < a.count; ++i) {
    atom_bytes x;
    atom_bytes y;
    pa = read_atom(pa, x);
    pb = read_atom(pb, y);
    if (!equal_atoms(x, y)) {
      return false;
    }
  }
  return true;
}

// All of two terms but their children.
bool equal_heads(const head& a, const head& b) noexcept {
  if (a.what != b.what) {
    return false;
  }
  switch (a.what) {
  case form::integer:
    return a.integer == b.integer;
  case form::big:
    return a.is_negative == b.is_negative && a.count == b.count
           && equal_bytes(a, b, a.count);
  case form::floating:
    return !(a.floating < b.floating) && !(a.floating > b.floating);
  case form::atom:
    return equal_atoms(a.name, b.name);
  case form::binary:
    return a.count == b.count && equal_bytes(a, b, a.count);
  case form::bits:
    return equal_bits(a, b);
  case form::pid:
  case form::port:
    return a.id == b.id && a.serial == b.serial && a.creation == b.creation
           && equal_atoms(a.name, b.name);
  case form::ref:
    return equal_refs(a, b);
  case form::external_fun:
    return a.integer == b.integer && equal_atoms(a.name, b.name)
           && equal_atoms(a.function, b.function);
  case form::closure: // what OTP looks at: see eq() in beam/utils.c
    return a.serial == b.serial && a.count == b.count
           && a.old_uniq == b.old_uniq && equal_atoms(a.name, b.name);
  case form::record:
    return a.count == b.count && a.is_exported == b.is_exported
           && equal_atoms(a.name, b.name) && equal_atoms(a.function, b.function)
           && equal_field_names(a, b);
  case form::tuple:
  case form::map:
    return a.count == b.count;
  case form::nil:
  case form::string:
  case form::list:
    return true;
  }
  return false;
}

bool is_listy(const head& h) noexcept {
  return h.what == form::list || h.what == form::string;
}

// One side of a list: where it is, in a run of bytes or in a run of terms.
struct list_side {
  const std::byte* p = nullptr;
  std::uint64_t left = 0;
  bool is_string = false;

  enum state { more, nil, improper };

  list_side() = default;
  explicit list_side(const head& h)
      : p(h.what == form::string ? h.body : h.next),
        left(h.count),
        is_string(h.what == form::string) {}

  state settle() noexcept {
    while (left == 0) {
      if (is_string) {
        return nil;
      }
      p = strip(p);
      const head h = read(p);
      if (h.what == form::nil) {
        p = h.next;
        return nil;
      }
      if (!is_listy(h)) {
        return improper;
      }
      *this = list_side(h);
    }
    return more;
  }
};

struct entry {
  const std::byte* key;
  const std::byte* value;
  std::uint64_t hash;
};

const std::byte* entries(const head& map, std::vector<entry>& out) {
  const std::byte* p = map.next;
  for (std::uint64_t i = 0; i < map.count; ++i) {
    const std::byte* value = skip(p);
    out.push_back({p, value, 0});
    p = skip(value);
  }
  return p;
}

class comparison {
public:
  bool run(const std::byte* a, const std::byte* b) {
    a_ = a;
    b_ = b;
    if (!one()) {
      return false;
    }
    while (!open_.empty()) {
      if (!step()) {
        return false;
      }
    }
    return true;
  }

private:
  struct frame {
    enum class inside : std::uint8_t { row, list, map };
    explicit frame(inside w) : what(w) {}

    inside what;
    bool waits = false;     // list: for the element under comparison
    std::uint64_t left = 0; // row: children; map: next of `pairs`
    list_side a, b;         // list
    std::vector<std::pair<const std::byte*, const std::byte*>> pairs; // map
    const std::byte* a_end = nullptr;                                 // map
    const std::byte* b_end = nullptr;
  };

  // Compares the terms at a_ and b_, opening a frame if they have children.
  bool one() {
    head a = read(strip(a_));
    head b = read(strip(b_));
    if (is_listy(a) && is_listy(b)) {
      frame f(frame::inside::list);
      f.a = list_side(a);
      f.b = list_side(b);
      open_.push_back(std::move(f));
      return true;
    }
    if (!equal_heads(a, b)) {
      return false;
    }
    a_ = a.next;
    b_ = b.next;
    std::uint64_t children = 0;
    switch (a.what) {
    case form::closure: // the creator does not count
      a_ = skip(a_);
      b_ = skip(b_);
      [[fallthrough]];
    case form::tuple:
    case form::record:
      children = a.count;
      break;
    case form::map:
      if (a.count > 1) {
        return map(a, b);
      }
      children = 2 * a.count;
      break;
    default:
      break;
    }
    if (children > 0) {
      frame f(frame::inside::row);
      f.left = children;
      open_.push_back(std::move(f));
    }
    return true;
  }

  bool map(const head& a, const head& b) {
    std::vector<entry> as;
    std::vector<entry> bs;
    frame f(frame::inside::map);
    f.a_end = entries(a, as);
    f.b_end = entries(b, bs);
    // Most often both list the same keys in the same order.
    const bool same_order = std::equal(
        as.begin(), as.end(), bs.begin(), [](const entry& x, const entry& y) {
          const auto n = x.value - x.key;
          return n == y.value - y.key
                 && std::memcmp(x.key, y.key, static_cast<std::size_t>(n)) == 0;
        });
    if (!same_order && !align(as, bs)) {
      return false;
    }
    for (std::size_t i = 0; i < as.size(); ++i) {
      if (!same_order) {
        f.pairs.emplace_back(as[i].key, bs[i].key);
      }
      f.pairs.emplace_back(as[i].value, bs[i].value);
    }
    open_.push_back(std::move(f));
    return true;
  }

  // Puts equal keys at equal places, going by their hashes.
  static bool align(std::vector<entry>& as, std::vector<entry>& bs) {
    for (auto* side : {&as, &bs}) {
      for (entry& e : *side) {
        e.hash = hash({e.key, e.value});
      }
      std::sort(side->begin(), side->end(),
                [](const entry& x, const entry& y) { return x.hash < y.hash; });
    }
    for (std::size_t i = 0; i < as.size(); ++i) {
      if (as[i].hash != bs[i].hash) {
        return false;
      }
      // Two keys of one map with one hash of 64 bits: all but impossible.
      for (std::size_t k = i;
           k < bs.size() && bs[k].hash == as[i].hash
           && (k > i || (k + 1 < bs.size() && bs[k + 1].hash == as[i].hash));
           ++k) {
        if (comparison().run(as[i].key, bs[k].key)) {
          std::swap(bs[i], bs[k]);
          break;
        }
      }
    }
    return true;
  }

  bool step() {
    frame& f = open_.back();
    switch (f.what) {
    case frame::inside::row:
      if (f.left == 0) {
        open_.pop_back();
        return true;
      }
      --f.left;
      return one();
    case frame::inside::map:
      if (f.left == f.pairs.size()) {
        a_ = f.a_end;
        b_ = f.b_end;
        open_.pop_back();
        return true;
      }
      std::tie(a_, b_) = f.pairs[f.left++];
      return one();
    case frame::inside::list:
      return list(f);
    }
    return false;
  }

  bool list(frame& f) {
    if (f.waits) {
      f.waits = false;
      f.a.p = a_;
      f.b.p = b_;
      --f.a.left;
      --f.b.left;
    }
    for (;;) {
      const auto at = f.a.settle();
      if (at != f.b.settle()) {
        return false;
      }
      if (at != list_side::more) {
        a_ = f.a.p;
        b_ = f.b.p;
        open_.pop_back();
        return at == list_side::nil || one();
      }
      if (!f.a.is_string && !f.b.is_string) {
        a_ = f.a.p;
        b_ = f.b.p;
        f.waits = true;
        return one();
      }
      if (!bytes(f.a, f.b)) {
        return false;
      }
    }
  }

  static bool bytes(list_side& a, list_side& b) {
    if (a.is_string && b.is_string) {
      const auto n = std::min(a.left, b.left);
      if (std::memcmp(a.p, b.p, n) != 0) {
        return false;
      }
      for (list_side* s : {&a, &b}) {
        s->p += n;
        s->left -= n;
      }
      return true;
    }
    list_side& of_bytes = a.is_string ? a : b;
    list_side& of_terms = a.is_string ? b : a;
    const head h = read(strip(of_terms.p));
    if (h.what != form::integer || h.integer != tag_at(of_bytes.p)) {
      return false;
    }
    ++of_bytes.p;
    --of_bytes.left;
    of_terms.p = h.next;
    --of_terms.left;
    return true;
  }

  const std::byte* a_ = nullptr;
  const std::byte* b_ = nullptr;
  std::vector<frame> open_;
};

} // namespace

bool equal(const std::byte* a, const std::byte* b) {
  return comparison().run(a, b);
}

} // namespace esp::etf
