// The stack of a C++ exception as Erlang has stacktraces.

#pragma once

#include "esp/term.hpp"

namespace esp::node {

// Of the exception being handled, where it was thrown first:
//   [{Image, Function, Arity, [{file, File}, {line, Line}]}]
// Image is the plugin's name, or that of the executable or a library; Function
// has its namespaces and no parameters, which Arity counts. Without debugging
// information the location is [], and without symbols Function is the offset in
// the file, "0x12ab", for addr2line. What only leads to the task (the engine,
// our headers) is left out, and of a deep stack the outermost calls. Call it in
// a handler; waits, for a bounded time, when it is the first throw from there.
term stack_of_throw();

} // namespace esp::node
