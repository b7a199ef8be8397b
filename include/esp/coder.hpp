// Writing and reading one term piece by piece: what codecs are made of. Users
// meet it only when they specialise esp::codec for a type of their own.

#pragma once

#include "esp/big_int.hpp"
#include "esp/term.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace esp {

using binary = std::vector<std::byte>;

// Writes one term, from its outside in: a header says how many terms come
// next. Not writing what a header promised makes finish() undefined.
class ESP_API encoder {
public:
  encoder() noexcept;
  encoder(const encoder&) = delete;
  encoder& operator=(const encoder&) = delete;
  ~encoder();

  void integer(std::int64_t v);
  void integer_unsigned(std::uint64_t v);
  void integer_big(const big_int& v);
  void floating(double v); // not finite: throws std::range_error
  void atom(esp::atom a);
  void atom(std::string_view utf8); // legal text, as a literal is
  void binary(std::span<const std::byte> bytes);
  void binary(std::string_view bytes);
  void string(std::string_view latin1); // a list of characters
  void nil();
  void tuple(std::size_t elements);
  void list(std::size_t elements); // 1 or more; then those and a tail
  void map(std::size_t pairs);     // then keys and values in turn
  void pid(const esp::pid& p);
  void ref(const esp::ref& r);
  void port(const esp::port& p);
  void value(const term& t);

  term finish(); // the term; nothing may be written after

private:
  std::byte* room(std::size_t n) { // for n bytes more; size_ is up to you
    if (capacity_ - size_ < n) {
      grow(n);
    }
    return data_ + size_;
  }
  void grow(std::size_t n);
  void put(const void* bytes, std::size_t n);

  std::byte* data_;
  std::size_t size_ = 0;
  std::size_t capacity_;
  detail::block* block_ = nullptr; // once `near_` is too small
  std::byte near_[256];
};

// Reads one term from its outside in. A reader that returns false or none has
// found another kind of term, or a value out of range, and stays where it is.
// `t` must outlive it.
class ESP_API decoder {
public:
  explicit decoder(const term& t) noexcept : p_(t.bytes().data()), of_(&t) {}

  kind peek() const noexcept;

  bool integer(std::int64_t& v) noexcept;
  bool integer_unsigned(std::uint64_t& v) noexcept;
  std::optional<big_int> integer_big();
  bool floating(double& v) noexcept;
  std::optional<esp::atom> atom();
  // The text of an atom, valid as long as the term; none for a latin-1 atom
  // beyond ASCII.
  std::optional<std::string_view> atom_name() noexcept;
  bool is_atom(std::string_view name) noexcept; // if so, it is behind
  bool text(std::string& v);                    // a binary or a list of bytes
  bool bytes(esp::binary& v);
  std::optional<esp::pid> pid();
  std::optional<esp::ref> ref();
  std::optional<esp::port> port();
  bool tuple(std::size_t& elements) noexcept; // then read that many
  bool map(std::size_t& pairs) noexcept;      // then keys and values in turn
  term value();
  void skip() noexcept;

  // A list: enter() it, then read one element after each next() that is true.
  // is_proper() tells, after the last, whether the tail was [].
  struct list_state {
    std::uint64_t left = 0;
    bool in_string = false;
    bool proper = false;
    std::uint64_t hint = 0; // how many elements there are at least
  };
  bool enter(list_state& l) noexcept;
  bool next(list_state& l) noexcept;

  // To try one reading and go back.
  struct mark {
    const std::byte* p;
    int byte;
  };
  mark here() const noexcept { return {p_, byte_}; }
  void back_to(mark m) noexcept {
    p_ = m.p;
    byte_ = m.byte;
  }

private:
  const std::byte* p_;
  const term* of_;
  int byte_ = -1; // in a list of bytes: the element to be read
};

} // namespace esp
