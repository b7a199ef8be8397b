// erlang:trace/3, trace_pattern/3, trace_info/2 and match_spec_test/3; and what
// dbg of OTP 27 and later has of module trace for them. What an emulator has and
// this node has not (meta tracing, counters, tracer modules) is badarg, as what
// nobody has.

#include "node/pid_table.hpp"
#include "rpc/bif_trace.hpp"
#include "rpc/bifs.hpp"
#include "trace/relay.hpp"

#include <algorithm>
#include <string_view>

namespace esp::served {

namespace {

using trace::session_ptr;
using trace::tracer_ptr;
namespace flag = trace::flag;

// Of arguments that are there: a tracer that is a process of ours.
tracer_ptr tracer_of(const call_context& c, trace::table& traces,
                     const term& name) {
  const auto known = traces.find(name);
  const auto p = name.as_pid();
  if (p && p->node == c.home.name() && !process_of(c, name)) {
    if (known)
      traces.end(known);
    badarg();
  }
  if (known)
    return known;
  if (!p || p->node != c.home.name())
    badarg();
  const auto t = trace::make_tracer(c.home, *p);
  traces.add(t);
  return t;
}

struct wish {
  trace::flags f = 0;
  std::optional<term> tracer;
};

wish wish_of(const term& list) {
  const auto all = list.as_list();
  if (!all)
    badarg();
  wish w;
  for (const term& one : *all) {
    if (one.is_tagged("tracer", 2)) {
      w.tracer = one.element(1);
    } else if (const auto f = trace::flag_of(one)) {
      w.f |= *f;
    } else {
      badarg();
    }
  }
  return w;
}

bool truth_of(const term& t) {
  if (!t.is_atom("true") && !t.is_atom("false"))
    badarg();
  return t.is_atom("true");
}

// What `all` and its like mean: none for what is no such word.
struct range {
  bool existing, fresh;
};
std::optional<range> range_of(const term& t) {
  static constexpr std::pair<std::string_view, range> words[] = {
      {"all", {true, true}},
      {"processes", {true, true}},
      {"existing", {true, false}},
      {"existing_processes", {true, false}},
      {"new", {false, true}},
      {"new_processes", {false, true}},
      {"ports", {false, false}},
      {"existing_ports", {false, false}},
      {"new_ports", {false, false}}};
  for (const auto& [word, r] : words)
    if (t.is_atom(word))
      return r;
  return std::nullopt;
}

std::optional<bool> is_send(const term& t) {
  if (t.is_atom("send") || t.is_atom("receive"))
    return t.is_atom("send");
  return std::nullopt;
}

// [] and true: all is told.
match::spec_ptr spec_of(const term& t, match::use u) {
  if (t.is_atom("true") || t == term())
    return nullptr;
  auto made = match::spec::compile(t, u);
  if (!std::holds_alternative<match::spec_ptr>(made))
    badarg();
  return std::get<match::spec_ptr>(std::move(made));
}

bool is_local(const term& options) {
  const auto all = options.as_list();
  if (!all)
    badarg();
  bool local = false, global = false;
  for (const term& o : *all) {
    local = local || o.is_atom("local");
    global = global || o.is_atom("global");
    if (!o.is_atom("local") && !o.is_atom("global"))
      badarg();
  }
  if (local && global)
    badarg();
  return local;
}

// {M, F, Arity}, of which '_' is any; once any, all that follow are.
struct function_range {
  std::optional<atom> module, function;
  std::optional<std::int64_t> arity;

  explicit function_range(const term& t) {
    if (t.kind() != kind::tuple || t.arity() != 3)
      badarg();
    const auto part = [&](std::size_t i) -> std::optional<atom> {
      const atom a = atom_of(t.element(i));
      return a == "_" ? std::nullopt : std::optional(a);
    };
    module = part(0);
    function = part(1);
    const term n = t.element(2);
    if (!n.is_atom("_")) {
      if (n.kind() != kind::integer)
        badarg();
      arity = n.as_integer().value_or(-1);
    }
    if ((!module && function) || (!function && arity))
      badarg();
  }
  bool has(const task_name& t) const {
    return (!module || *module == t.first) && (!function || *function == t.second)
           && (!arity || *arity == 2);
  }
};

term trace_info_of_function(trace::table& traces, const tasks_of& tasks,
                            const term& mfa, const term& item) {
  static const atom undefined("undefined");
  const function_range r(mfa);
  const auto all = tasks();
  const auto there = std::find_if(all.begin(), all.end(),
                                  [&](const auto& t) { return r.has(t); });
  if (there == all.end() || !r.module || !r.function || !r.arity)
    return term::tuple({item, undefined});
  const auto p = traces.pattern_of(there->first, there->second);
  const auto value = [&](std::string_view of) -> std::optional<term> {
    if (of == "traced")
      return p ? term(atom(p->is_local ? "local" : "global")) : boolean(false);
    if (of == "match_spec")
      return p ? (p->spec ? p->spec->source() : term()) : boolean(false);
    for (const char* other : {"meta", "meta_match_spec", "call_time",
                              "call_count", "call_memory"})
      if (of == other)
        return boolean(false);
    return std::nullopt;
  };
  if (item.is_atom("all")) {
    if (!p)
      return term::tuple({item, boolean(false)});
    std::vector<term> every;
    for (const char* one : {"traced", "match_spec", "meta", "meta_match_spec",
                            "call_time", "call_count"})
      every.push_back(term::tuple({atom(one), *value(one)}));
    return term::tuple({item, term::list(every)});
  }
  const auto v = value(item.as_atom_name().value_or(""));
  if (!v)
    badarg();
  return term::tuple({item, *v});
}

term trace_info(call_context& c, trace::table& traces, const tasks_of& tasks,
                arguments a) {
  static const atom undefined("undefined");
  if (const auto send = is_send(a[0])) {
    if (!a[1].is_atom("match_spec"))
      badarg();
    const auto p = traces.messages(*send);
    return term::tuple({a[1], p.is_told && p.spec ? p.spec->source()
                                                  : boolean(p.is_told)});
  }
  if (a[0].kind() == kind::tuple)
    return trace_info_of_function(traces, tasks, a[0], a[1]);
  trace::table::state s;
  const auto r = range_of(a[0]);
  if (a[0].kind() == kind::pid) {
    const auto p = process_of(c, a[0]);
    if (!p)
      return undefined;
    s = traces.state_of(p->number());
  } else if (r && r->fresh && !r->existing) {
    s = traces.state_of_new();
  } else {
    badarg();
  }
  if (a[1].is_atom("flags"))
    return term::tuple({a[1], trace::list_of(s.all)});
  if (!a[1].is_atom("tracer"))
    badarg();
  return term::tuple({a[1], s.tracer ? s.tracer->name() : term()});
}

term match_spec_test(call_context& c, arguments a) {
  static const atom ok("ok"), error("error");
  if (!a[2].is_atom("trace") || (a[0].kind() != kind::list && a[0] != term()))
    badarg();
  auto made = match::spec::compile(a[1], match::use::calls);
  if (const auto* wrong = std::get_if<std::string>(&made))
    return term::tuple(
        {error, term::list({term::tuple({error, term::string(*wrong)})})});
  const auto v = std::get<match::spec_ptr>(made)->run(
      {c.self.pid(), c.home.name()}, a[0], nullptr);
  std::vector<term> flags;
  if (v.exception_trace)
    flags.push_back(atom("exception_trace"));
  if (v.return_trace)
    flags.push_back(atom("return_trace"));
  return term::tuple({ok, v.matched && v.message ? *v.message
                                                 : boolean(v.matched),
                      term::list(flags), term()});
}

} // namespace

term set_flags(call_context& c, trace::table& traces, const session_ptr& s,
               const term& item, const term& how, const term& flags) {
  const bool on = truth_of(how);
  const wish w = wish_of(flags);
  tracer_ptr t = s->tracer;
  if (!t && (w.tracer || on))
    t = tracer_of(c, traces, w.tracer ? *w.tracer : term(c.self.pid()));
  if (item.kind() == kind::pid) {
    const auto p = process_of(c, item);
    if (!p || !p->may_be_traced() || !traces.set(s, *p, on, w.f, t))
      badarg();
    return integer(1);
  }
  const auto r = range_of(item);
  if (!r)
    badarg();
  std::uint64_t n = 0;
  if (r->existing)
    for (const auto& p : c.home.table().all())
      if (p->is_alive() && p->may_be_traced() && traces.set(s, *p, on, w.f, t))
        ++n;
  if (r->fresh)
    traces.set_new(s, on, w.f, t);
  return integer(n);
}

term set_pattern(trace::table& traces, const tasks_of& tasks,
                 const session_ptr& s, const term& what, const term& spec,
                 const term& options) {
  const bool off = spec.is_atom("false"), local = is_local(options);
  if (const auto send = is_send(what)) {
    if (options != term())
      badarg();
    traces.set_messages(
        s, *send,
        {!off, off ? nullptr : spec_of(spec, match::use::messages)});
    return integer(1);
  }
  const function_range r(what);
  std::optional<trace::call_pattern> p;
  if (!off)
    p = {local, spec_of(spec, match::use::calls)};
  std::uint64_t n = 0;
  for (const auto& t : tasks())
    if (r.has(t)) {
      traces.set_pattern(s, t.first, t.second, local, p);
      ++n;
    }
  return integer(n);
}

session_ptr session_of(const trace::table& traces, const term& name) {
  auto s = traces.find_session(name);
  if (!s)
    badarg();
  return s;
}

void add_trace(function_table& t, trace::table& traces, tasks_of tasks) {
  t.add("erlang", "trace", 3, [&traces](call_context& c, arguments a) {
    return set_flags(c, traces, traces.common(), a[0], a[1], a[2]);
  });
  t.add("erlang", "trace_pattern", 2,
        [&traces, tasks](call_context&, arguments a) {
          return set_pattern(traces, tasks, traces.common(), a[0], a[1],
                             term());
        });
  t.add("erlang", "trace_pattern", 3,
        [&traces, tasks](call_context&, arguments a) {
          return set_pattern(traces, tasks, traces.common(), a[0], a[1], a[2]);
        });
  t.add(
      "erlang", "trace_info", 2,
      [&traces, tasks](call_context& c, arguments a) {
        return trace_info(c, traces, tasks, a);
      },
      effect::looks);
  // It is the caller's program that runs: for others it is no look.
  t.add("erlang", "match_spec_test", 3, match_spec_test, effect::acts);
  t.add("trace", "function", 4, [&traces, tasks](call_context&, arguments a) {
    return set_pattern(traces, tasks, session_of(traces, a[0]), a[1], a[2],
                       a[3]);
  });
}

} // namespace esp::served
