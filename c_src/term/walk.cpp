#include "term/walk.hpp"

#include "term/atom_table.hpp"

#include <algorithm>
#include <limits>

namespace esp::etf {
namespace {

using base::load_be;

constexpr std::uint64_t list_seed = 0x6C69737400000001U;
constexpr std::uint64_t improper_seed = 0x696D70726F706572U;
constexpr std::uint64_t tuple_seed = 0x7475706C65000001U;
constexpr std::uint64_t map_seed = 0x6D61700000000001U;
constexpr std::uint64_t fun_seed = 0x66756E0000000001U;
constexpr std::uint64_t record_seed = 0x7265636F72640001U;

// Limits of OTP 25 on 64 bits, by its own names.
constexpr std::uint64_t big_arity_max = (std::uint64_t{1} << 19) - 1;
constexpr std::uint32_t max_arg = 255;
constexpr std::uint16_t max_ref_numbers = 5;
constexpr std::uint16_t ref_numbers = 3; // of a reference of its own
constexpr std::uint32_t max_reference = 1u << 18;
constexpr std::uint32_t max_tiny_creation = 3;
constexpr std::uint32_t max_own_pid_number = (1u << 15) - 1;
constexpr std::uint32_t max_own_pid_serial = (1u << 13) - 1;
constexpr std::uint64_t max_own_port_number = (1u << 28) - 1;
constexpr std::int64_t max_small = (std::int64_t{1} << 59) - 1;
constexpr std::size_t no_keys = std::numeric_limits<std::size_t>::max();

// A node that is not distributed knows identifiers of its own by this name
// and creation 0, and refuses those that it cannot have made.
bool is_own(const atom_bytes& node, std::uint32_t creation) noexcept {
  return node.is_secret || (creation == 0 && node.text == "nonode@nohost");
}

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

bool walk::leaf(std::uint8_t t) {
  const std::byte* const start = p_ - 1;
  bool ok = false;
  switch (t) {
  case tag::small_integer:
    ok = skip_bytes(1);
    break;
  case tag::integer:
    ok = skip_bytes(4);
    break;
  case tag::small_big:
    ok = has(1) && bignum(tag_at(p_++));
    break;
  case tag::large_big:
    ok = has(4);
    if (ok) {
      p_ += 4;
      ok = bignum(load_be<std::uint32_t>(p_ - 4));
    }
    break;
  case tag::new_float:
    // An exponent of all ones is an infinity or no number.
    ok = has(8)
         && (((load_be<std::uint16_t>(p_) & 0x7FF0) != 0x7FF0)
             || fail(errc::malformed))
         && skip_bytes(8);
    break;
  case tag::float_text: {
    double ignored = 0;
    ok = has(31)
         && (read_float_text(base::as_text({p_, is_verdict() ? left() : 31}),
                             ignored)
             || fail(errc::malformed))
         && skip_bytes(31);
    break;
  }
  case tag::nil:
    ok = true;
    break;
  case tag::string:
    ok = has(2) && skip_bytes(2 + std::uint64_t{load_be<std::uint16_t>(p_)});
    break;
  case tag::binary:
    ok = has(4) && skip_bytes(4 + std::uint64_t{load_be<std::uint32_t>(p_)});
    break;
  case tag::bit_binary:
    ok = bits();
    break;
  case tag::new_pid:
  case tag::pid:
    ok = pid(t);
    break;
  case tag::v4_port:
  case tag::new_port:
  case tag::port:
    ok = port(t);
    break;
  case tag::newer_reference:
  case tag::new_reference:
  case tag::reference:
    ok = reference(t);
    break;
  case tag::export_fun:
    ok = external_fun();
    break;
  default:
    --p_;
    ok = atom();
  }
  if (ok && hashes_now()) {
    value_ = hash_leaf(read(start));
  }
  return ok;
}

bool walk::atom() {
  if (!has(1)) {
    return false;
  }
  const std::uint8_t t = tag_at(p_++);
  std::size_t n = 0;
  switch (t) {
  case tag::small_atom_utf8:
  case tag::small_atom:
    if (!has(1)) {
      return false;
    }
    n = tag_at(p_++);
    break;
  case tag::atom_utf8:
  case tag::atom:
    if (!has(2)) {
      return false;
    }
    n = load_be<std::uint16_t>(p_);
    p_ += 2;
    break;
  case tag::atom_cache_ref:
    needs_rewrite_ = true;
    return !is_verdict() && has(1) && tag_at(p_++) < o_.cached;
  case tag::atom_internal_ref2:
    return is_verdict() && skip_bytes(2)
           && load_be<std::uint16_t>(p_ - 2) < o_.atom_count;
  case tag::atom_internal_ref3:
    // The tag above the three bytes is read along and taken off again.
    return is_verdict() && skip_bytes(3)
           && (load_be<std::uint32_t>(p_ - 4) & 0xFFFFFF) < o_.atom_count;
  default:
    return fail(errc::malformed);
  }
  if (!has(n)) {
    return false;
  }
  const bool is_utf8 = t == tag::small_atom_utf8 || t == tag::atom_utf8;
  if (is_utf8 ? !is_atom_text(base::as_text({p_, n}))
              : n > max_atom_characters) {
    return fail(errc::malformed);
  }
  p_ += n;
  return true;
}

bool walk::bignum(std::uint64_t n) {
  return n <= big_arity_max * 8 ? skip_bytes(n + 1) : fail(errc::malformed);
}

bool walk::bits() {
  if (!has(5)) {
    return false;
  }
  const std::uint64_t n = load_be<std::uint32_t>(p_);
  const std::uint8_t last = tag_at(p_ + 4);
  if ((last == 0) != (n == 0) || last > 8) {
    return fail(errc::malformed);
  }
  needs_rewrite_ = needs_rewrite_ || n == 0;
  return skip_bytes(5 + n);
}

bool walk::pid(std::uint8_t t) {
  const std::byte* const start = p_ - 1;
  if (!atom() || !skip_bytes(t == tag::pid ? 9 : 12)) {
    return false;
  }
  const head h = read(start);
  if ((t == tag::pid && h.creation > max_tiny_creation)
      || (is_verdict() && is_own(h.name, h.creation)
          && (h.id > max_own_pid_number || h.serial > max_own_pid_serial))) {
    return fail(errc::malformed);
  }
  return true;
}

bool walk::port(std::uint8_t t) {
  const std::byte* const start = p_ - 1;
  const std::uint64_t rest = t == tag::v4_port ? 12 : t == tag::port ? 5 : 8;
  if (!atom() || !skip_bytes(rest)) {
    return false;
  }
  const head h = read(start);
  if ((t == tag::port && h.creation > max_tiny_creation)
      || (is_verdict() && is_own(h.name, h.creation)
          && h.id > max_own_port_number)) {
    return fail(errc::malformed);
  }
  return true;
}

bool walk::reference(std::uint8_t t) {
  std::uint16_t words = 1;
  if (t != tag::reference) {
    if (!has(2)) {
      return false;
    }
    words = load_be<std::uint16_t>(p_);
    p_ += 2;
  }
  const std::byte* const node_at = p_;
  if (words > max_ref_numbers || (words == 0 && !is_verdict())) {
    return fail(errc::malformed);
  }
  if (!atom()) {
    return false;
  }
  std::uint32_t creation = 0;
  std::uint32_t first = 0;
  if (t == tag::reference) {
    if (!has(5)) {
      return false;
    }
    first = load_be<std::uint32_t>(p_);
    creation = tag_at(p_ + 4);
    p_ += 5;
  } else {
    const std::size_t width = t == tag::new_reference ? 1 : 4;
    if (!has(width + 4 * std::uint64_t{words})) {
      return false;
    }
    creation = width == 1 ? tag_at(p_) : load_be<std::uint32_t>(p_);
    p_ += width;
    // OTP reads a first word even of a reference without words, from whatever
    // follows: past the end of its input if there is nothing. What is there
    // can be anything; most words are large.
    has_wordless_ref_ = has_wordless_ref_ || words == 0;
    for (std::size_t i = 0; i < 4; ++i) {
      first = (first << 8) | (i < left() ? tag_at(p_ + i) : 0xFFu);
    }
    p_ += std::min<std::size_t>(left(), 4 * std::max<std::size_t>(words, 1));
  }
  const bool is_old = t != tag::newer_reference;
  if (is_old && (creation > max_tiny_creation || first >= max_reference)) {
    return fail(errc::malformed);
  }
  if (is_verdict()) {
    atom_bytes node;
    (void)read_atom(node_at, node);
    if (is_own(node, creation)
        && (first >= max_reference || words > ref_numbers)) {
      return fail(errc::malformed);
    }
  }
  return true;
}

// An integer that OTP holds in one word, in any of its forms.
bool walk::small(std::int64_t& v) {
  std::uint8_t t = 0;
  if (!next_tag(t)) {
    return false;
  }
  const std::byte* const start = p_ - 1;
  switch (t) {
  case tag::small_integer:
  case tag::integer:
  case tag::small_big:
  case tag::large_big:
    if (!leaf(t)) {
      return false;
    }
    break;
  default:
    return fail(errc::malformed);
  }
  const head h = read(start);
  v = h.integer;
  return (h.what == form::integer && v >= -max_small - 1 && v <= max_small)
         || fail(errc::malformed);
}

bool walk::external_fun() {
  std::int64_t arity = 0;
  if (!atom() || !atom() || !small(arity)) {
    return false;
  }
  // OTP 27 crashes on one of more than 255, so none is let in.
  return (arity >= 0 && (is_verdict() || arity <= max_arg))
         || fail(errc::malformed);
}

bool walk::closure() {
  const std::byte* const start = p_ - 1;
  if (!has(29)) {
    return false;
  }
  const std::uint32_t variables = load_be<std::uint32_t>(p_ + 25);
  p_ += 29; // the size is not looked at: OTP 23 and later write wrong ones
  std::int64_t ignored = 0;
  if (variables > max_arg) {
    return fail(errc::malformed);
  }
  if (!atom() || !small(ignored) || !small(ignored)) {
    return false;
  }
  std::uint64_t seed = 0;
  if (hashes_now()) {
    const head h = read(start);
    seed = mix(mix(fun_seed, h.serial ^ (h.count << 32)), hash_atom(h.name));
    seed = mix(seed, hash_integer(h.old_uniq));
  }
  return open(inside::closure, 1 + std::uint64_t{variables}, seed);
}

bool walk::record(bool& opened) {
  const std::byte* const start = p_ - 1;
  if (!has(5)) {
    return false;
  }
  const std::uint64_t n = load_be<std::uint32_t>(p_);
  if (tag_at(p_ + 4) > 1) {
    return fail(errc::malformed);
  }
  p_ += 5;
  if (!has(2 * n) || !atom() || !atom()) {
    return false;
  }
  std::uint64_t seed = mix(record_seed, n);
  const std::size_t first = keys_.size();
  for (std::uint64_t i = 0; i < n; ++i) {
    const std::byte* const at = p_;
    if (!atom()) {
      return false;
    }
    atom_bytes field;
    (void)read_atom(at, field);
    keys_.push_back({hash_atom(field), at});
    seed = mix(seed, keys_.back().hash);
  }
  if (has_twins(first)) {
    return fail(errc::malformed);
  }
  keys_.resize(first);
  if (hashes_now()) {
    const head h = read(start);
    seed = mix(mix(seed, hash_atom(h.name)), hash_atom(h.function));
    seed += h.is_exported ? 1 : 0;
  }
  if (n == 0) {
    value_ = seed;
    return true;
  }
  opened = true;
  return open(inside::record, n, seed);
}

std::uint64_t hash_integer(std::int64_t v) noexcept {
  return mix(hash_seed(), static_cast<std::uint64_t>(v));
}

std::uint64_t hash_atom(const atom_bytes& a) noexcept {
  if (!a.is_latin1) {
    return mix(1, hash_text(a.text));
  }
  char utf8[2 * max_atom_characters];
  std::size_t n = 0;
  for (const char c : a.text) {
    const auto u = static_cast<unsigned char>(c);
    if (u < 0x80) {
      utf8[n++] = c;
    } else {
      utf8[n++] = static_cast<char>(0xC0 | (u >> 6));
      utf8[n++] = static_cast<char>(0x80 | (u & 0x3F));
    }
  }
  return mix(1, hash_text({utf8, n}));
}

std::uint64_t hash_leaf(const head& h) noexcept {
  const auto bytes = [&](std::uint64_t n) {
    return hash_text(base::as_text({h.body, static_cast<std::size_t>(n)}));
  };
  std::uint64_t v = mix(hash_seed(), static_cast<std::uint64_t>(h.what));
  switch (h.what) {
  case form::integer:
    return hash_integer(h.integer);
  case form::big:
    return mix(v + (h.is_negative ? 1 : 0), bytes(h.count));
  case form::floating: {
    const double positive_zero = h.floating == 0 ? 0.0 : h.floating;
    std::uint64_t word;
    std::memcpy(&word, &positive_zero, sizeof word);
    return mix(v, word);
  }
  case form::atom:
    return hash_atom(h.name);
  case form::binary:
    return mix(v, bytes(h.count));
  case form::bits: {
    const std::uint8_t last = static_cast<std::uint8_t>(
        tag_at(h.body + h.count - 1) >> (8 - h.last_bits));
    return mix(mix(v, bytes(h.count - 1)),
               (std::uint64_t{last} << 8) | h.last_bits);
  }
  case form::string:
    v = list_seed;
    for (std::uint64_t i = 0; i < h.count; ++i) {
      v = mix(v, hash_integer(tag_at(h.body + i)));
    }
    return v;
  case form::pid:
    v = mix(mix(v, h.id), (std::uint64_t{h.serial} << 32) | h.creation);
    return mix(v, hash_atom(h.name));
  case form::port:
    return mix(mix(mix(v, h.id), h.creation), hash_atom(h.name));
  case form::ref: { // words that are zero at the end do not count
    std::uint64_t n = h.count;
    while (n > 0 && load_be<std::uint32_t>(h.body + 4 * (n - 1)) == 0) {
      --n;
    }
    v = mix(mix(v, h.creation), hash_atom(h.name));
    for (std::uint64_t i = 0; i < n; ++i) {
      v = mix(v, load_be<std::uint32_t>(h.body + 4 * i));
    }
    return v;
  }
  case form::external_fun:
    v = mix(mix(v, hash_atom(h.name)), hash_atom(h.function));
    return mix(v, static_cast<std::uint64_t>(h.integer));
  default:
    return v; // nil; what has children is hashed by the walk
  }
}

} // namespace esp::etf
