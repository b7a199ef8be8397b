// erlang:trace/3 and erlang:trace_pattern/3, for the tools that call them.

#pragma once

#include "rpc/bifs.hpp"
#include "trace/table.hpp"

namespace esp::served {

// Both raise badarg.
term set_flags(call_context& c, trace::table& traces,
               const trace::session_ptr& s, const term& item, const term& how,
               const term& flags);
term set_pattern(trace::table& traces, const tasks_of& tasks,
                 const trace::session_ptr& s, const term& what,
                 const term& spec, const term& options);
// The session of that name, or badarg.
trace::session_ptr session_of(const trace::table& traces, const term& name);

} // namespace esp::served
