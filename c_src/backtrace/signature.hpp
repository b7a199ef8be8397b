// What Erlang would call a C++ function: a name and a number of arguments.

#pragma once

#include <string>
#include <string_view>

namespace esp::backtrace {

struct signature {
  std::string name;
  unsigned arity = 0;

  friend bool operator==(const signature&, const signature&) = default;
};

// Of a symbol, mangled or not: `int (anonymous namespace)::twice<int>(int)
// const [clone .cold]` is twice<int>/1. A name of more than 120 characters is
// cut.
signature signature_of(const char* symbol);
// The same of what a demangler has written.
signature parse_signature(std::string_view plain);
// Not within a character.
void cut_name(std::string& name);

} // namespace esp::backtrace
