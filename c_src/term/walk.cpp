#include "term/walk.hpp"

#include "term/atom_table.hpp"

#include <algorithm>
#include <limits>

namespace esp::etf {
namespace {

using base::load_be;

constexpr std::uint64_t improper_seed = 0x696D70726F706572U;
constexpr std::uint64_t tuple_seed = 0x7475706C65000001U;
constexpr std::uint64_t map_seed = 0x6D61700000000001U;
constexpr std::size_t no_keys = std::numeric_limits<std::size_t>::max();

} // namespace

bool walk::run() {
  for (bool done = false; !done;) {
    before_child();
    bool opened = false;
    if (!enter(opened)) {
      return false;
    }
    if (!opened && !leave(done)) {
      return false;
    }
  }
  return true;
}

void walk::before_child() noexcept {
  if (open_.empty()) {
    return;
  }
  frame& f = open_.back();
  f.child = p_;
  const bool is_key = f.what == inside::map && f.left % 2 == 0;
  f.hashes_child = f.hashing || (is_key && f.first_key != no_keys);
}

bool walk::next_tag(std::uint8_t& t) {
  for (;;) {
    if (!has(1)) {
      return false;
    }
    t = tag_at(p_++);
    if (t != tag::list) {
      return true;
    }
    if (!has(4)) {
      return false;
    }
    if (load_be<std::uint32_t>(p_) != 0) {
      return true;
    }
    p_ += 4; // a list of no elements is its tail
  }
}

// A list in the place of a tail belongs to the list it ends, so that it costs
// no depth and that every way to write one list has one hash.
bool walk::merge_tail(bool& merged) {
  frame& f = open_.back();
  const std::uint8_t t = tag_at(p_ - 1);
  merged = true;
  if (t == tag::list) {
    const std::uint64_t n = load_be<std::uint32_t>(p_);
    p_ += 4;
    f.what = inside::list;
    f.left = n;
    return has(n);
  }
  if (t == tag::string) {
    if (!has(2)) {
      return false;
    }
    const std::uint64_t n = load_be<std::uint16_t>(p_);
    p_ += 2;
    if (!has(n)) {
      return false;
    }
    for (std::uint64_t i = 0; f.hashing && i < n; ++i) {
      f.hash = mix(f.hash, hash_integer(tag_at(p_ + i)));
    }
    p_ += n;
    f.left = 0;
    return true;
  }
  if (t == tag::nil) {
    f.left = 0;
    return true;
  }
  merged = false;
  return true;
}

bool walk::enter(bool& opened) {
  std::uint8_t t = 0;
  if (!next_tag(t)) {
    return false;
  }
  if (!open_.empty() && open_.back().what == inside::tail) {
    bool merged = false;
    if (!merge_tail(merged)) {
      return false;
    }
    if (merged) {
      opened = open_.back().left > 0;
      return true;
    }
  }
  std::uint64_t n = 0;
  switch (t) {
  case tag::list:
    n = load_be<std::uint32_t>(p_);
    p_ += 4;
    opened = true;
    return has(n) && open(inside::list, n, list_seed);
  case tag::small_tuple:
    if (!has(1)) {
      return false;
    }
    n = tag_at(p_++);
    break;
  case tag::large_tuple:
  case tag::map:
    if (!has(4)) {
      return false;
    }
    n = load_be<std::uint32_t>(p_);
    p_ += 4;
    break;
  case tag::new_fun:
    opened = true;
    return closure();
  case tag::native_record:
    if (is_verdict()) {
      return fail(errc::malformed);
    }
    return record(opened);
  default:
    return leaf(t);
  }
  const bool is_map = t == tag::map;
  if (!has(is_map ? 2 * n : n)) {
    return false;
  }
  const std::uint64_t seed = mix(is_map ? map_seed : tuple_seed, n);
  if (n == 0) {
    value_ = seed;
    return true;
  }
  opened = true;
  return is_map ? open(inside::map, 2 * n, seed) : open(inside::tuple, n, seed);
}

bool walk::open(inside what, std::uint64_t children, std::uint64_t seed) {
  if (open_.size() >= o_.max_depth) {
    return fail(errc::too_deep);
  }
  if (open_.capacity() == 0) {
    open_.reserve(8); // most terms go no deeper
  }
  const bool hashing = hashes_now();
  const bool has_keys = what == inside::map && children > 2;
  open_.push_back({.what = what,
                   .hashing = hashing,
                   .hashes_child = hashing,
                   .left = children,
                   .hash = seed,
                   .key_hash = 0,
                   .child = p_,
                   .first_key = has_keys ? keys_.size() : no_keys});
  deepest_ = std::max(deepest_, open_.size());
  return true;
}

// The child just read counts into its container.
bool walk::fold(frame& f) {
  switch (f.what) {
  case inside::map:
    if (f.left % 2 == 0) {
      f.key_hash = value_;
      if (f.first_key != no_keys) {
        if (keys_.capacity() == 0) {
          keys_.reserve(8);
        }
        keys_.push_back({value_, f.child});
      }
    } else if (f.hashing) {
      f.hash += mix(f.key_hash, value_); // in any order
    }
    return true;
  case inside::closure:
    if (f.key_hash == 0) {
      f.key_hash = 1; // the creator: two closures may differ in it alone
      const std::uint8_t t = tag_at(f.child);
      return is_verdict() || t == tag::new_pid || t == tag::pid
             || fail(errc::malformed);
    }
    break;
  case inside::tail:
    value_ ^= improper_seed;
    break;
  default:
    break;
  }
  if (f.hashing) {
    f.hash = mix(f.hash, value_);
  }
  return true;
}

bool walk::leave(bool& done) {
  for (;;) {
    if (open_.empty()) {
      done = true;
      return true;
    }
    frame& f = open_.back();
    if (f.left > 0) { // 0: a tail that was merged
      if (!fold(f)) {
        return false;
      }
      if (--f.left > 0) {
        return true;
      }
      if (f.what == inside::list) {
        f.what = inside::tail;
        f.left = 1;
        return true;
      }
    }
    if (f.first_key != no_keys) {
      if (has_twins(f.first_key)) {
        return fail(errc::malformed);
      }
      keys_.resize(f.first_key);
    }
    value_ = f.hash;
    open_.pop_back();
  }
}

bool walk::has_twins(std::size_t first) {
  const auto from = keys_.begin() + static_cast<std::ptrdiff_t>(first);
  const auto is_twin = [](const key& a, const key& b) {
    return a.hash == b.hash && equal(a.at, b.at);
  };
  if (keys_.end() - from <= 8) {
    for (auto a = from; a != keys_.end(); ++a) {
      if (std::any_of(a + 1, keys_.end(),
                      [&](const key& b) { return is_twin(*a, b); })) {
        return true;
      }
    }
    return false;
  }
  std::sort(from, keys_.end(),
            [](const key& a, const key& b) { return a.hash < b.hash; });
  for (auto a = from; a != keys_.end(); ++a) {
    for (auto b = a + 1; b != keys_.end() && b->hash == a->hash; ++b) {
      if (equal(a->at, b->at)) {
        return true;
      }
    }
  }
  return false;
}

} // namespace esp::etf
