#include "rpc/erpc.hpp"

#include "esp/process.hpp"

#include <algorithm>
#include <string>
#include <system_error>

namespace esp::served {

namespace {

bool is_count(const term& t) {
  const auto n = t.as_integer();
  return n ? *n >= 0
           : t.kind() == kind::integer && t.bytes()[2] == std::byte{0};
}

// One option of erlang:spawn_opt/5; those about the heap mean nothing here.
bool is_option(const term& o) {
  if (o.is_atom("link") || o.is_atom("monitor") || o.is_tagged("monitor", 2))
    return true;
  if (o.kind() != kind::tuple || o.arity() != 2)
    return false;
  const term v = o.element(1);
  if (o.is_tagged("priority", 2)) {
    static constexpr std::string_view levels[] = {"low", "normal", "high",
                                                  "max"};
    return std::any_of(std::begin(levels), std::end(levels),
                       [&v](std::string_view l) { return v.is_atom(l); });
  }
  if (o.is_tagged("fullsweep_after", 2) || o.is_tagged("min_heap_size", 2)
      || o.is_tagged("min_bin_vheap_size", 2) || o.is_tagged("scheduler", 2))
    return is_count(v);
  if (o.is_tagged("max_heap_size", 2))
    return is_count(v) || v.kind() == kind::map;
  if (o.is_tagged("message_queue_data", 2))
    return v.is_atom("on_heap") || v.is_atom("off_heap") || v.is_atom("mixed");
  if (o.is_tagged("async_dist", 2))
    return v.is_atom("true") || v.is_atom("false");
  return o.is_tagged("reply", 2) || o.is_tagged("reply_tag", 2);
}

// erpc:execute_call/4: the process exits with what came of it.
term execute_call(call_context& c, const term& res, const term& m,
                  const term& f, const term& a) {
  static const atom return_("return"), throw_("throw"), exit_("exit"),
      error_("error"), erpc("erpc"), system_limit("system_limit");
  if (count_arguments(a) == max_arguments)
    return term::tuple({res, error_, term::tuple({erpc, system_limit})});
  try {
    return term::tuple({res, return_, c.table.apply(c, m, f, a)});
  } catch (const exit_signal& e) {
    if (!c.self.is_alive())
      throw; // it was told to end, which is no answer
    return term::tuple({res, exit_, e.reason()});
  } catch (const raised& e) {
    switch (e.of_class()) {
    case exception_class::thrown:
      return term::tuple({res, throw_, e.reason()});
    case exception_class::exit:
      return term::tuple({res, exit_, e.reason()});
    case exception_class::error:
      break;
    }
    return term::tuple({res, error_, e.reason(), e.stack()});
  }
}

} // namespace

// As an Erlang node would: errors are logged, exits and throws are not caught
// by anybody either.
void evaluate(const function_table& table, const work& w) {
  node::process& me = *node::process::current();
  call_context c{me.home(), me, table, w.caller};
  try {
    (void)table.apply(c, w.module, w.name, w.args);
  } catch (const raised& e) {
    const term reason = uncaught(e);
    if (e.of_class() != exception_class::exit)
      me.home().on_crash(me, reason);
    esp::exit(reason);
  }
}

std::string text_of(const term& module, const term& name, const term& args) {
  const auto arity = count_arguments(args);
  return module.to_string(64) + ":" + name.to_string(64) + "/"
         + (arity ? std::to_string(*arity) : "?");
}

term uncaught(const raised& e) {
  static const atom nocatch("nocatch");
  switch (e.of_class()) {
  case exception_class::exit:
    return e.reason();
  case exception_class::thrown:
    return term::tuple({term::tuple({nocatch, e.reason()}), e.stack()});
  case exception_class::error:
    break;
  }
  return term::tuple({e.reason(), e.stack()});
}

std::variant<node::process_ptr, atom> spawn_for(node::node& home,
                                                const function_table& table,
                                                const dist::spawn_request& r) {
  static const atom badopt("badopt"), system_limit("system_limit"),
      erpc("erpc"), call_("execute_call"), cast("execute_cast");
  const auto options = r.options.as_list();
  if (!options || !std::all_of(options->begin(), options->end(), is_option))
    return badopt;
  // What is no function at all is shown as what was asked for.
  const term initial =
      term::tuple({r.module, r.function, term::integer(r.arity)});
  const auto function_of = [&initial](const term& m, const term& f,
                                      const term& args) {
    const auto arity = count_arguments(args);
    if (!m.as_atom() || !f.as_atom() || !arity)
      return initial;
    return term::tuple(
        {m, f, term::integer(static_cast<std::int64_t>(*arity))});
  };
  std::function<void()> body;
  std::string doing;
  term called;
  if (r.module == erpc && r.function == call_ && r.arity == 4) {
    const auto a = *r.args.as_list();
    doing = text_of(a[1], a[2], a[3]);
    called = function_of(a[1], a[2], a[3]);
    body = [&table, caller = r.from.node, a] {
      node::process& me = *node::process::current();
      call_context c{me.home(), me, table, caller};
      esp::exit(execute_call(c, a[0], a[1], a[2], a[3]));
    };
  } else {
    work w{r.module, r.function, r.args, r.from.node};
    if (r.module == erpc && r.function == cast && r.arity == 3) {
      const auto a = *r.args.as_list();
      w = {a[0], a[1], a[2], r.from.node};
    }
    doing = text_of(w.module, w.name, w.args);
    called = function_of(w.module, w.name, w.args);
    body = [&table, w = std::move(w)] { evaluate(table, w); };
  }
  try {
    const auto p = home.spawn<calling_process>(
        std::move(body), std::move(doing), std::move(called));
    p->set_origin(initial, {term(r.from)});
    return p;
  } catch (const std::system_error&) {
    return system_limit;
  }
}

} // namespace esp::served
