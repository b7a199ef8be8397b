// What is logged of a process that ends with an error: exactly what proc_lib
// and gen_server log, so that an Erlang node prints it as its own.

#pragma once

#include "node/process.hpp"

#include <optional>

namespace esp::otp {

// What a process that keeps a state was doing.
struct in_hand {
  term last_message;
  term state; // cut to a bound before it is sent
};

// Logs a crash report, and before it, if there is something `in hand`, a
// server's terminate report, unless the reason is normal, shutdown or
// {shutdown, _}. To be called before links fire, while the process knows
// them, and on its fiber, where it knows what waits for it.
void report_crash(node::process& p, const term& reason,
                  const std::optional<in_hand>& hand = std::nullopt);

} // namespace esp::otp
