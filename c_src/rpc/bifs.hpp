// The functions that every node of ours offers, grouped as Erlang has them in
// modules. Each behaves as its namesake, errors included. Those that look and
// do nothing else may be had under policy::inspect.

#pragma once

#include "rpc/function_table.hpp"

#include <functional>

namespace esp::served {

// erlang: node/0,1, nodes/0,1, self/0, group_leader/0, apply/2,3, error/1,2,
// exit/1,2, throw/1, whereis/1, registered/0, function_exported/3,
// garbage_collect/0,1, ports/0; timer:sleep/1.
void add_erlang(function_table& t);
// erlang: processes/0, is_process_alive/1, process_info/1,2.
void add_process_info(function_table& t);
// erlang: system_info/1, memory/0,1, statistics/1.
void add_system_info(function_table& t);
// code:ensure_loaded/1 (a module is loaded if it has functions in the table);
// init:stop/0,1, which calls `stop` and returns ok.
void add_code(function_table& t, std::function<void()> stop);

// Arguments of the types that Erlang wants; anything else is badarg.
atom atom_of(const term& t);
pid pid_of(const term& t);
term boolean(bool b);
// The process, if it is one of ours and alive; badarg for a pid of another
// node, as these functions have it.
node::process_ptr process_of(const call_context& c, const term& t);

} // namespace esp::served
