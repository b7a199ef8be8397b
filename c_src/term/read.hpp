// Reading terms that scan() has accepted. Nothing here checks a bound: the
// walk has. Every external form is understood, old ones included, so that all
// that compares, prints or takes terms apart sees one shape for each kind.

#pragma once

#include "esp/term.hpp"

#include "base/bytes.hpp"
#include "term/tags.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace esp::etf {

enum class form : std::uint8_t {
  integer, // fits 64 bits
  big,     // does not
  floating,
  atom,
  binary,
  bits, // a last byte in use by 1..7 bits
  nil,
  string, // a list of bytes, at least one
  list,   // at least one element, then a tail
  tuple,
  map,
  pid,
  port,
  ref,
  external_fun,
  closure,
  record,
};

inline constexpr std::uint32_t secret_atom = 18; // '3RT$' in atom.names

// The text of an atom as it is on the wire.
struct atom_bytes {
  std::string_view text;
  bool is_latin1 = false;   // and beyond ASCII, so not also UTF-8
  bool is_cached = false;   // an index into a frame's atoms, in text[0]
  bool is_nameless = false; // one of the VM's own numbers; see read_atom()
  bool is_secret = false;   // of those, the one by which a VM knows itself
};

// One term without its children. Which fields count depends on `what`.
struct head {
  form what = form::nil;
  const std::byte* next = nullptr; // the first child, else the next term

  std::int64_t integer = 0; // integer; external_fun: the arity
  double floating = 0;
  // big: magnitude, least byte first, without leading zeros; binary, bits,
  // string: the bytes; ref: words, big-endian.
  const std::byte* body = nullptr;
  std::uint64_t count = 0;  // of bytes, words, elements or pairs; closure: the
                            // free variables
  bool is_negative = false; // big
  std::uint8_t last_bits = 8; // bits
  std::uint64_t id = 0;       // pid, port
  std::uint32_t serial = 0;   // pid
  std::uint32_t creation = 0;
  atom_bytes name;     // atom; node of pid, port, ref; module of the funs and
                       // of a record
  atom_bytes function; // external_fun; of a record its name
  std::int64_t old_uniq = 0; // closure
  std::int64_t old_index = 0;
  bool is_exported = false; // record
};

inline std::uint8_t tag_at(const std::byte* p) noexcept {
  return std::to_integer<std::uint8_t>(*p);
}

// Skips what adds nothing: OTP takes a list of no elements for its tail.
inline const std::byte* strip(const std::byte* p) noexcept {
  while (tag_at(p) == tag::list && base::load_be<std::uint32_t>(p + 1) == 0) {
    p += 5;
  }
  return p;
}

// The text in UTF-8, whatever it is on the wire.
std::string utf8_of(const atom_bytes& a);

// Reads an atom in any of its forms and returns what follows it.
const std::byte* read_atom(const std::byte* p, atom_bytes& out) noexcept;

// The atom itself; none if the table is full.
std::optional<atom> interned(const atom_bytes& a);

head read(const std::byte* p) noexcept;

kind kind_of(form what) noexcept;
// The identifier that a head of form pid, ref or port holds; none for another
// form, and if the table of atoms is full.
std::optional<pid> pid_of(const head& h);
std::optional<ref> ref_of(const head& h);
std::optional<port> port_of(const head& h);

// The end of the term at `p`, without recursion and without memory.
const std::byte* skip(const std::byte* p) noexcept;

// Decimal text of a FLOAT_EXT, as OTP reads it: with a comma for a point too.
// `text` ends at a zero byte or at its own end. False if it is no float.
bool read_float_text(std::string_view text, double& out) noexcept;

} // namespace esp::etf
