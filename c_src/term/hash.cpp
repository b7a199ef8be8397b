// Hashes of single terms. The walk folds them into those of containers.

#include "term/atom_table.hpp"
#include "term/walk.hpp"

namespace esp::etf {

using base::load_be;

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
