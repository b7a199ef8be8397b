// The table behind esp::atom. Looking a known atom up takes no lock; a new one
// takes the lock of one shard. Entries are never removed, so a name stays where
// it is for the life of the OS process.

#pragma once

#include "esp/error.hpp"

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace esp::etf {

inline constexpr std::size_t max_atoms = 1'048'576; // as in the BEAM
inline constexpr std::size_t max_atom_bytes = std::size_t{128} << 20;
inline constexpr std::size_t max_atom_characters = 255;

// Strict UTF-8 (no overlong forms, no surrogates, at most U+10FFFF) of at most
// 255 characters: what OTP takes for an atom.
bool is_atom_text(std::string_view utf8) noexcept;

// `utf8` has passed is_atom_text(). The error is system_limit.
result<std::uint32_t> intern_atom(std::string_view utf8);

std::string_view atom_text(std::uint32_t index) noexcept;

std::size_t atom_count() noexcept;
std::size_t atom_text_bytes() noexcept; // of their texts

// The table's own text hash, with a seed that is new in each OS process.
std::uint64_t hash_text(std::string_view text) noexcept;
std::uint64_t hash_seed() noexcept;

// 64 bits of both, well mixed; the step of every hash in this room.
inline std::uint64_t mix(std::uint64_t a, std::uint64_t b) noexcept {
  __extension__ using wide = unsigned __int128;
  const wide m = wide{a ^ 0x9E3779B97F4A7C15U} * wide{b ^ 0xD6E8FEB86659FD93U};
  return static_cast<std::uint64_t>(m) ^ static_cast<std::uint64_t>(m >> 64);
}

} // namespace esp::etf
