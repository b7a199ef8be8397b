// The parts of accepted terms, by where their bytes are: whatever the form on
// the wire, a list is a row of elements and a tail. For walks that hold a heap
// and no stack, since a term may be 10,000 deep and a fiber's stack is small.

#pragma once

#include "esp/term.hpp"

#include "term/read.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace esp::match {

using place = const std::byte*; // of a term, past what adds nothing

inline place begin_of(const term& t) noexcept {
  return etf::strip(t.bytes().data());
}

inline std::size_t size_of(place p) noexcept {
  return static_cast<std::size_t>(etf::skip(p) - p);
}

// A term of its own.
inline term at(place p) {
  return term::copy_of({p, size_of(p)});
}

inline bool is_list(const etf::head& h) noexcept {
  return h.what == etf::form::list || h.what == etf::form::string;
}

// All elements of a list, over as many tails as it is made of; none of
// anything else, whose tail is itself.
struct list_parts {
  explicit list_parts(place p);
  bool is_proper() const noexcept {
    return etf::read(tail).what == etf::form::nil;
  }
  std::vector<place> elements;
  place tail;
};

// The elements of a tuple; of a map the keys and values in turn.
std::vector<place> children_of(const etf::head& h);

// N of an atom `$N`, else -1; '_' is `any`.
inline constexpr std::int64_t any = -2;
std::int64_t variable_of(const etf::head& h) noexcept;

} // namespace esp::match
