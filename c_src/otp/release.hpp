// What differs by the release of the node that asks, and what only that node
// can do for us.

#pragma once

#include "otp/special_process.hpp"

namespace esp::otp {

// sys:get_state and replace_state expect {ok, State} from stdlib 5.1 (OTP
// 26.1) on, and the bare state before: the flags of a connection do not tell.
// Asks that node once for each of its lives; true if it does not say, which
// never crashes the caller. Blocks the fiber.
bool wraps_state(atom node_name);

// erlang:apply(Fun, Arguments), a list, on that node; the refusal is {Class,
// Reason}. Blocks the fiber.
answer apply_at(atom node_name, const term& fun, const term& arguments);

} // namespace esp::otp
