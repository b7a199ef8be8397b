// Spawn requests: what erpc, rpc and erlang:spawn/4 and its kin ask of us.
// See erpc.erl and protocol.md, section 8.

#pragma once

#include "rpc/function_table.hpp"

#include <variant>

namespace esp::served {

// The process that a SPAWN_REQUEST asks for, made and not yet begun: it calls
// the function of the table, or does erpc's execute_call/4 or execute_cast/3
// with one, and ends as a process on an Erlang node would have. The atom is
// badopt or system_limit. On any thread; `table` must outlive the process.
std::variant<node::process_ptr, atom>
spawn_for(node::node& home, const function_table& table,
          const dist::spawn_request& request);

// A process that evaluates M:F(Args) for nobody, as erlang:spawn/3; null if
// there is no room for one.
node::process_ptr spawn_call(node::node& home, const function_table& table,
                             atom module, atom name, std::vector<term> args,
                             const pid& leader);

// The exit reason of a process in which that was not caught.
term uncaught(const raised& e);

} // namespace esp::served
