// The functions that a match specification may call, in guard and body alike:
// "Match Specifications in Erlang" of the ERTS user's guide.

#pragma once

#include "esp/term.hpp"

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

namespace esp::match {

// Who asks.
struct caller {
  pid self;
  atom node;
};

// None where Erlang has an exception.
using function = std::optional<term> (*)(const caller&, std::span<const term>);

// Null if there is none.
function find_function(std::string_view name, std::size_t arity) noexcept;

} // namespace esp::match
