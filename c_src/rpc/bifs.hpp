// The functions that every node of ours offers, grouped as Erlang has them in
// modules. Each behaves as its namesake, errors included. Those that look and
// do nothing else may be had under policy::inspect.

#pragma once

#include "esp/process.hpp"

#include "rpc/function_table.hpp"
#include "rpc/offer.hpp"

#include <functional>
#include <initializer_list>

namespace esp::trace {
class table;
}

namespace esp::served {

// erlang: node/0,1, nodes/0,1, self/0, group_leader/0, apply/2,3, error/1,2,
// exit/1,2, throw/1, whereis/1, registered/0, function_exported/3,
// garbage_collect/0,1, ports/0, port_info/1,2; timer:sleep/1;
// net_adm:localhost/0.
void add_erlang(function_table& t);
// erlang: processes/0, is_process_alive/1, process_info/1,2;
// proc_lib:translate_initial_call/1.
void add_process_info(function_table& t);
// erlang:system_info/1; os:getpid/0.
void add_system_info(function_table& t);
// erlang: memory/0,1, statistics/1.
void add_statistics(function_table& t);
// code: ensure_loaded/1, is_loaded/1, all_loaded/0 (a module is loaded if it
// has functions in the table, or is known to it);
// application:which_applications/0,1; sys:get_status/1,2; init:stop/0,1, which
// calls `stop` and returns ok.
void add_code(function_table& t, std::function<void()> stop);
// observer_backend: all that observer and etop call, by the functions above.
void add_observer_backend(function_table& t);
// appmon_info:start_link2/3, whose processes show `processes`.
void add_appmon_info(function_table& t,
                     std::function<process_tree(node::node&)> processes);
// seq_trace: set_system_tracer/1, get_system_tracer/0, reset_trace/0.
void add_seq_trace(function_table& t);
// erlang: trace/3, trace_pattern/2,3, trace_info/2, match_spec_test/3;
// trace:function/4. `tasks` are what can be traced as functions.
void add_trace(function_table& t, trace::table& traces, tasks_of tasks);
// dbg: do_relay/2,3, erlang_trace/3,4, get_info/0, deliver_and_flush/1,2;
// erlang:port_control/3.
void add_dbg(function_table& t, trace::table& traces);
// observer_backend: ttb_init_node/3, ttb_write_trace_info/3, ttb_stop/1.
void add_ttb(function_table& t, trace::table& traces);

// Arguments of the types that Erlang wants; anything else is badarg.
atom atom_of(const term& t);
pid pid_of(const term& t);
// ... and where Erlang has a clause for no other: function_clause.
[[noreturn]] void function_clause();
// A pid, a name here, or {Name, Node}: what `!` takes.
destination destination_of(const term& t);
term boolean(bool b);
term integer(std::uint64_t n);
term max_heap_size(); // of what has no heap: none
// The process, if it is one of ours and alive; badarg for a pid of another
// node, as these functions have it.
node::process_ptr process_of(const call_context& c, const term& t);

// One function of the table from another, as Module:Name(Args...) in Erlang.
term call(call_context& c, atom module, atom name,
          std::initializer_list<term> args);

} // namespace esp::served
