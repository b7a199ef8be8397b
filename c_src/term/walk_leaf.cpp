// The leaves of the walk, and what is in front of the children of a fun or a
// record. Limits and oddities are OTP 25's: erts/emulator/beam/external.c.

#include "term/atom_table.hpp"
#include "term/walk.hpp"

#include <algorithm>

namespace esp::etf {
namespace {

using base::load_be;

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

// A node that is not distributed knows identifiers of its own by this name
// and creation 0, and refuses those that it cannot have made.
bool is_own(const atom_bytes& node, std::uint32_t creation) noexcept {
  return node.is_secret || (creation == 0 && node.text == "nonode@nohost");
}

} // namespace

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

} // namespace esp::etf
