#include "rpc/erpc.hpp"

#include "esp/process.hpp"

#include "node/spawned.hpp"

#include <algorithm>
#include <string>
#include <system_error>

namespace esp::served {

namespace {

constexpr std::size_t max_arity = 255;

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

// What a process was asked to evaluate.
struct work {
  atom module, name;
  std::vector<term> args;
};

// As an Erlang node would: errors are logged, exits and throws are not caught
// by anybody either.
void evaluate(const function_table& table, const work& w) {
  node::process& me = *node::process::current();
  call_context c{me.home(), me, table};
  try {
    (void)table.call(c, w.module, w.name, w.args);
  } catch (const raised& e) {
    const term reason = uncaught(e);
    if (e.of_class() != exception_class::exit)
      me.home().on_crash(me, reason);
    esp::exit(reason);
  }
}

// erpc:execute_call/4: the process exits with what came of it.
term execute_call(call_context& c, const term& res, const term& m,
                  const term& f, const term& a) {
  static const atom return_("return"), throw_("throw"), exit_("exit"),
      error_("error"), erpc("erpc"), badarg_("badarg"),
      system_limit("system_limit");
  const auto module = m.as_atom(), name = f.as_atom();
  const auto args = a.as_list();
  if (!module || !name || !args)
    return term::tuple({res, error_, term::tuple({erpc, badarg_})});
  if (args->size() > max_arity)
    return term::tuple({res, error_, term::tuple({erpc, system_limit})});
  try {
    return term::tuple({res, return_, c.table.call(c, *module, *name, *args)});
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

term text_of(atom module, atom name, std::size_t arity) {
  return term::tuple(
      {module, name, term::integer(static_cast<std::int64_t>(arity))});
}

node::process_ptr start(node::node& home, std::function<void()> body,
                        const work& shown, const pid& parent) {
  const auto p = home.spawn<node::spawned_process>(
      std::move(body), std::string(shown.module.name()) + ":"
                           + std::string(shown.name.name()) + "/"
                           + std::to_string(shown.args.size()));
  p->set_origin(
      {text_of(shown.module, shown.name, shown.args.size()), {term(parent)}});
  return p;
}

} // namespace

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
      erpc("erpc"), erlang("erlang"), call_("execute_call"),
      cast("execute_cast");
  const auto options = r.options.as_list();
  auto args = r.args.as_list();
  if (!options || !args
      || !std::all_of(options->begin(), options->end(), is_option))
    return badopt;
  work w{r.module, r.function, std::move(*args)};
  std::function<void()> body;
  if (r.module == erpc && r.function == call_ && r.arity == 4)
    body = [&table, w] {
      node::process& me = *node::process::current();
      call_context c{me.home(), me, table};
      esp::exit(execute_call(c, w.args[0], w.args[1], w.args[2], w.args[3]));
    };
  else if (r.module == erpc && r.function == cast && r.arity == 3)
    body = [&table, w] {
      const auto m = w.args[0].as_atom(), f = w.args[1].as_atom();
      const auto a = w.args[2].as_list();
      if (m && f && a && a->size() <= max_arity)
        evaluate(table, {*m, *f, *a});
      else
        evaluate(table, w); // undef, as wrong as it is
    };
  else
    body = [&table, w] { evaluate(table, w); };
  try {
    return start(home, std::move(body), w, r.from);
  } catch (const std::system_error&) {
    return system_limit;
  }
}

node::process_ptr spawn_call(node::node& home, const function_table& table,
                             atom module, atom name, std::vector<term> args,
                             const pid& leader) {
  const work w{module, name, std::move(args)};
  try {
    auto p = start(
        home, [&table, w] { evaluate(table, w); }, w, leader);
    p->receive_leader(leader);
    p->kick();
    return p;
  } catch (const std::system_error&) {
    return nullptr;
  }
}

} // namespace esp::served
