// What erpc:call/5 and gen:call/4 do, from a process of ours (protocol.md,
// sections 8 and 9).

#pragma once

#include "esp/process.hpp"

#include <optional>

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

// The reply, or the reason of the DOWN that came instead; neither in time.
struct gen_outcome {
  std::optional<term> reply, down;
};

// {Label, From, Request} to a process that answers as gen does: `system` for
// sys's requests. On the fiber of a process, which it blocks; throws
// exit_signal.
gen_outcome gen_call(atom label, const destination& to, const term& request,
                     milliseconds timeout);

} // namespace esp::node
