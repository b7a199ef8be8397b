#include "esp/process.hpp"

#include "node/remote_call.hpp"
#include "rpc/bifs.hpp"

namespace esp::served {

namespace {

term all_loaded(const function_table& table) {
  std::vector<term> all;
  for (const auto& m : table.modules())
    all.push_back(term::tuple({m.name, m.file}));
  return term::list(all);
}

term is_loaded(const function_table& table, const term& name) {
  static const atom file("file");
  const auto m = name.as_atom();
  if (!m)
    function_clause();
  for (const auto& l : table.modules())
    if (l.name == *m)
      return term::tuple({file, l.file});
  return boolean(false);
}

term which_applications() {
  return term::list(std::initializer_list<term>{term::tuple(
      {atom("erlangsp"),
       term::string(
           "Dataflow co-ops of C++ and Erlang processes that OTP supervises"),
       term::string(ESP_VERSION)})});
}

milliseconds timeout_of(const term& t) {
  if (t.is_atom("infinity"))
    return infinity;
  const auto ms = t.as_integer();
  if (!ms || *ms < 0)
    function_clause();
  return milliseconds(*ms);
}

// sys:get_status/1,2, which exits if there is no answer, and says of which
// call.
term get_status(const term& who, const term& timeout, arguments args) {
  static const atom system("system"), get_status_("get_status"), sys("sys"),
      timeout_("timeout"), nodedown("nodedown");
  const auto to = destination_of(who);
  const auto got =
      node::gen_call(system, to, get_status_, timeout_of(timeout));
  if (got.reply)
    return *got.reply;
  term reason = got.down ? *got.down : term(timeout_);
  if (reason.is_atom("noconnection")) {
    const auto* named = std::get_if<std::pair<atom, atom>>(&to);
    const auto* p = std::get_if<pid>(&to);
    reason = term::tuple({nodedown, named != nullptr ? named->second
                                    : p != nullptr   ? p->node
                                                     : this_node()});
  }
  throw raised(exception_class::exit,
               term::tuple({reason, term::tuple({sys, get_status_,
                                                 term::list(args)})}));
}

} // namespace

void add_code(function_table& t, std::function<void()> stop) {
  t.add(
      "code", "ensure_loaded", 1,
      [](call_context& c, arguments a) {
        const auto m = a[0].as_atom();
        if (!m)
          function_clause();
        return c.table.has_module(*m)
                   ? term::tuple({atom("module"), *m})
                   : term::tuple({atom("error"), atom("nofile")});
      },
      effect::looks);
  const auto add = [&t](std::string_view module, std::string_view name,
                        unsigned arity, function f) {
    t.add(module, name, arity, std::move(f), effect::looks);
  };
  add("code", "all_loaded", 0,
      [](call_context& c, arguments) { return all_loaded(c.table); });
  add("code", "is_loaded", 1,
      [](call_context& c, arguments a) { return is_loaded(c.table, a[0]); });
  add("application", "which_applications", 0,
      [](call_context&, arguments) { return which_applications(); });
  add("application", "which_applications", 1,
      [](call_context&, arguments a) {
        (void)timeout_of(a[0]);
        return which_applications();
      });
  add("sys", "get_status", 1, [](call_context&, arguments a) {
    return get_status(a[0], term::integer(5'000), a);
  });
  add("sys", "get_status", 2, [](call_context&, arguments a) {
    return get_status(a[0], a[1], a);
  });
  // The answer goes out before everything ends, if the caller is quick.
  const auto stopping = [stop = std::move(stop)](call_context&, arguments) {
    esp::spawn([stop, caller = esp::self()] {
      const ref r = esp::monitor(caller);
      (void)esp::receive(
          [&r](const term& m) {
            return m.is_tagged("DOWN", 5) && m.element(1).as_ref() == r;
          },
          std::chrono::seconds(1));
      stop();
    });
    return term(atom("ok"));
  };
  t.add("init", "stop", 0, stopping);
  t.add("init", "stop", 1, stopping); // the status is not ours to choose
}

} // namespace esp::served
