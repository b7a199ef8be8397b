// Erlang terms. A `term` is any term: immutable, cheap to copy, kept as its
// bytes in the external term format and decoded only where somebody looks.
// The typed side (int64_t <-> integer, std::string <-> binary, ...) is in
// codec.hpp.

#pragma once

#include "esp/error.hpp"

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace esp {

// An interned atom. Copies are four bytes; equal names are equal ids within
// one OS process. Thread safe. At most 255 characters (1020 bytes UTF-8).
class ESP_API atom {
public:
  constexpr atom() = default; // the empty atom ''
  // Interns `utf8`. A text that is no legal atom, or a full table (1,048,576
  // atoms, as in the BEAM), throws std::length_error: use intern() for bytes
  // from outside.
  explicit atom(std::string_view utf8);
  static result<atom> intern(std::string_view utf8);

  std::string_view name() const noexcept; // lives as long as the OS process
  std::uint32_t index() const noexcept { return index_; }

  friend bool operator==(atom, atom) = default;
  friend auto operator<=>(atom, atom) = default; // by index, not by name
  friend bool operator==(atom a, std::string_view s) { return a.name() == s; }

private:
  std::uint32_t index_ = 0;
};

// A process identifier. Identity is all four fields.
struct ESP_API pid {
  atom node;
  std::uint32_t id = 0;
  std::uint32_t serial = 0;
  std::uint32_t creation = 0;

  friend bool operator==(const pid&, const pid&) = default;
  friend auto operator<=>(const pid&, const pid&) = default;
};

struct ESP_API ref {
  atom node;
  std::uint32_t creation = 0;
  std::uint8_t count = 0;               // 1..5 words in use
  std::array<std::uint32_t, 5> words{}; // the unused ones are zero

  friend bool operator==(const ref&, const ref&) = default;
  friend auto operator<=>(const ref&, const ref&) = default;
};

struct ESP_API port {
  atom node;
  std::uint64_t id = 0;
  std::uint32_t creation = 0;

  friend bool operator==(const port&, const port&) = default;
  friend auto operator<=>(const port&, const port&) = default;
};

enum class kind : std::uint8_t {
  integer,   // of any size
  floating,
  atom,
  binary,    // whole bytes
  bitstring, // any other number of bits
  nil,       // []
  list,      // a cons; may be improper
  tuple,
  map,
  pid,
  ref,
  port,
  fun,
  record, // a native record of OTP 29
};

class term;

// The refcounted block of bytes that terms share. Never seen by users.
namespace detail {
struct block;
void ESP_API retain(block* b) noexcept;
void ESP_API release(block* b) noexcept;
} // namespace detail

class ESP_API term {
public:
  term() noexcept; // []
  term(atom a);
  term(const esp::pid& p);
  term(const esp::ref& r);
  term(const esp::port& p);
  term(const term& other) noexcept {
    std::memcpy(raw_, other.raw_, sizeof raw_);
    if (!is_near()) {
      detail::retain(owner());
    }
  }
  term(term&& other) noexcept {
    std::memcpy(raw_, other.raw_, sizeof raw_);
    other.set_nil();
  }
  term& operator=(const term& other) noexcept {
    term copy(other);
    swap(copy);
    return *this;
  }
  term& operator=(term&& other) noexcept {
    term taken(std::move(other));
    swap(taken);
    return *this;
  }
  ~term() {
    if (!is_near()) {
      detail::release(owner());
    }
  }
  void swap(term& other) noexcept {
    std::byte kept[sizeof raw_];
    std::memcpy(kept, raw_, sizeof raw_);
    std::memcpy(raw_, other.raw_, sizeof raw_);
    std::memcpy(other.raw_, kept, sizeof raw_);
  }

  // Terms of everyday shapes. Anything else goes through codec.hpp.
  static term integer(std::int64_t v);
  static term floating(double v);
  static term binary(std::string_view bytes);
  static term string(std::string_view latin1); // a list of characters
  static term tuple(std::span<const term> elements);
  static term tuple(std::initializer_list<term> elements);
  static term list(std::span<const term> elements);
  static term list(std::initializer_list<term> elements);
  static term list(std::span<const term> elements, const term& tail);
  // Keys must differ; the order given is kept on the wire.
  static term map(std::span<const std::pair<term, term>> pairs);
  static term map(std::initializer_list<std::pair<term, term>> pairs);

  // Reads one term in the external format, with its leading 131, as a
  // connection does (term/scan.hpp has the caps); bytes after it are an
  // error. Copies the bytes.
  static result<term> decode(std::span<const std::byte> external);
  // The external format of this term, with 131 in front.
  std::vector<std::byte> encode() const;

  // The bytes without the 131. They and the views below are valid as long as
  // this very object lives unchanged: a small term holds its bytes itself, so
  // do not keep a view of a temporary.
  std::span<const std::byte> bytes() const noexcept {
    if (is_near()) {
      return {raw_, near_size()};
    }
    std::uint32_t size;
    const std::byte* data;
    std::memcpy(&data, raw_ + 8, sizeof data);
    std::memcpy(&size, raw_ + 16, sizeof size);
    return {data, size};
  }

  esp::kind kind() const noexcept;
  bool is_atom(std::string_view name) const noexcept;
  // A tuple of this size whose first element is this atom.
  bool is_tagged(std::string_view tag, std::size_t arity) const noexcept;

  std::optional<std::int64_t> as_integer() const noexcept; // none: bigger, other
  std::optional<double> as_floating() const noexcept;
  std::optional<atom> as_atom() const; // none too if the atom table is full
  // None too for a latin-1 atom beyond ASCII: use as_atom().
  std::optional<std::string_view> as_atom_name() const noexcept;
  std::optional<std::string_view> as_binary() const noexcept;
  // A list of bytes (in either external form) or a binary, as a string.
  std::optional<std::string> as_iodata() const;
  std::optional<esp::pid> as_pid() const;
  std::optional<esp::ref> as_ref() const;
  std::optional<esp::port> as_port() const;

  // Number of elements of a tuple, pairs of a map, else 0.
  std::size_t arity() const noexcept;
  // The i-th element of a tuple, from 0. Walks the bytes: O(size before it).
  term element(std::size_t i) const;
  // All elements of a tuple in one walk; empty for anything else.
  std::vector<term> elements() const;
  // The elements of a proper list; none for anything else.
  std::optional<std::vector<term>> as_list() const;
  std::optional<term> get(const term& key) const; // of a map
  std::optional<term> get(std::string_view atom_key) const;
  std::vector<std::pair<term, term>> pairs() const; // of a map

  // Erlang's =:= (floats by bits but for 0.0, maps in any order, all
  // encodings of one atom, string or integer are equal).
  friend ESP_API bool operator==(const term& a, const term& b) noexcept;
  std::size_t hash() const noexcept; // equal terms, equal hashes

  // Erlang syntax as ~tp prints it on one line, cut to about `limit` bytes
  // with "..." at the end.
  std::string to_string(std::size_t limit = 4096) const;

  // For the rooms: a term over bytes that scan() has accepted, as a slice of
  // `owner`, whose count it takes over. A small one is copied out instead.
  static term adopt(detail::block* owner, const std::byte* data,
                    std::uint32_t size) noexcept;
  // For the rooms: the same, always copied.
  static term copy_of(std::span<const std::byte> accepted);
  // The block that a slice of this term may share; null if it has none.
  detail::block* owner() const noexcept {
    detail::block* b = nullptr;
    if (!is_near()) {
      std::memcpy(&b, raw_, sizeof b);
    }
    return b;
  }

private:
  std::uint8_t near_size() const noexcept {
    return std::to_integer<std::uint8_t>(raw_[near_capacity]);
  }
  bool is_near() const noexcept { return near_size() != 0; }
  void set_nil() noexcept {
    raw_[0] = std::byte{106};
    raw_[near_capacity] = std::byte{1};
  }
  term slice(const std::byte* from, const std::byte* to) const;

  // A term of up to 23 bytes lives here and owns no block: most keys, atoms,
  // integers and pids never touch the allocator. Its size is the last byte.
  // For a longer one that byte is 0, and before it are the block, the first
  // byte and the size.
  static constexpr std::size_t near_capacity = 23;
  alignas(8) std::byte raw_[near_capacity + 1];
};
static_assert(sizeof(term) == 24);

// Tuples, lists and maps built from mixed values: see make_tuple, make_list
// and make_map in codec.hpp.

} // namespace esp

template <>
struct std::hash<esp::atom> {
  std::size_t operator()(esp::atom a) const noexcept {
    return a.index() * std::size_t{0x9E3779B97F4A7C15U};
  }
};
template <>
struct ESP_API std::hash<esp::pid> {
  std::size_t operator()(const esp::pid& p) const noexcept;
};
template <>
struct ESP_API std::hash<esp::ref> {
  std::size_t operator()(const esp::ref& r) const noexcept;
};
template <>
struct ESP_API std::hash<esp::port> {
  std::size_t operator()(const esp::port& p) const noexcept;
};
template <>
struct std::hash<esp::term> {
  std::size_t operator()(const esp::term& t) const noexcept { return t.hash(); }
};
