// What erpc:call/5 does, from a process of ours (protocol.md, section 8).

#pragma once

#include "esp/process.hpp"

namespace esp::node {

// How a function ended there: return, throw, exit or error, and with what.
struct outcome {
  atom how;
  term value;
};

// Runs Module:Function(Args...) on an Erlang node; `args` is a list. On the
// fiber of a process, which it blocks; throws exit_signal. Errors are of the
// connection and of time, and `refused` with the text of any other reason the
// worker there ended with.
result<outcome> remote_call(atom at, std::string_view module,
                            std::string_view function, const term& args,
                            milliseconds timeout);

} // namespace esp::node
