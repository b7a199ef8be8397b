#include "esp/process.hpp"

#include "rpc/bifs.hpp"

#include <algorithm>

namespace esp::served {

namespace {

template <class List, class F>
term list_of(const List& from, F&& to_term) {
  std::vector<term> all;
  for (const auto& v : from)
    all.push_back(to_term(v));
  return term::list(all);
}

void go_deeper(call_context& c) {
  static const atom system_limit("system_limit");
  if (++c.applied > max_applied)
    throw raised(exception_class::error, system_limit);
}

term nodes(const call_context& c) {
  return list_of(c.home.connections().connected(),
                 [](const node::peer_ptr& p) { return term(p->name()); });
}

// Ours is hidden, and a connection does not tell whether the other node is:
// `visible` has all of them.
term nodes_of(const call_context& c, const term& type) {
  const term self = term::list(std::initializer_list<term>{c.home.name()});
  if (type.is_atom("this"))
    return self;
  if (type.is_atom("visible") || type.is_atom("connected"))
    return nodes(c);
  if (type.is_atom("hidden"))
    return term();
  if (!type.is_atom("known"))
    badarg();
  auto all = nodes(c).as_list().value_or(std::vector<term>());
  all.emplace_back(c.home.name());
  return term::list(all);
}

term node_of(const term& t) {
  if (const auto p = t.as_pid())
    return p->node;
  if (const auto r = t.as_ref())
    return r->node;
  if (const auto p = t.as_port())
    return p->node;
  badarg();
}

// There are none: a port of this node's is one that is closed, whatever is
// asked of it, and so is a name.
term port_info(const call_context& c, const term& t) {
  static const atom undefined("undefined");
  const auto p = t.as_port();
  if ((!p && t.kind() != kind::atom) || (p && p->node != c.home.name()))
    badarg();
  return undefined;
}

} // namespace

atom atom_of(const term& t) {
  const auto a = t.as_atom();
  if (!a)
    badarg();
  return *a;
}

pid pid_of(const term& t) {
  const auto p = t.as_pid();
  if (!p)
    badarg();
  return *p;
}

void function_clause() {
  static const atom reason("function_clause");
  throw raised(exception_class::error, reason);
}

destination destination_of(const term& t) {
  if (const auto p = t.as_pid())
    return *p;
  if (const auto name = t.as_atom())
    return *name;
  if (t.kind() == kind::tuple && t.arity() == 2) {
    const auto name = t.element(0).as_atom(), at = t.element(1).as_atom();
    if (name && at)
      return std::pair(*name, *at);
  }
  badarg();
}

term integer(std::uint64_t n) {
  return term::integer(static_cast<std::int64_t>(n));
}

term call(call_context& c, atom module, atom name,
          std::initializer_list<term> args) {
  return c.table.call(c, module, name, arguments(args.begin(), args.size()));
}

term boolean(bool b) {
  static const atom yes("true"), no("false");
  return b ? yes : no;
}

node::process_ptr process_of(const call_context& c, const term& t) {
  const pid p = pid_of(t);
  if (p.node != c.home.name())
    badarg();
  auto found = c.home.find(p);
  return found && found->is_alive() ? found : nullptr;
}

void add_erlang(function_table& t) {
  static const atom undefined("undefined"), yes("true");
  const auto add = [&t](std::string_view name, unsigned arity, function f) {
    t.add("erlang", name, arity, std::move(f), effect::looks);
  };
  add("node", 0, [](call_context& c, arguments) { return c.home.name(); });
  add("node", 1, [](call_context&, arguments a) { return node_of(a[0]); });
  add("nodes", 0, [](call_context& c, arguments) { return nodes(c); });
  add("nodes", 1,
      [](call_context& c, arguments a) { return nodes_of(c, a[0]); });
  add("self", 0, [](call_context& c, arguments) { return c.self.pid(); });
  add("group_leader", 0,
      [](call_context& c, arguments) { return c.self.leader(); });
  add("ports", 0, [](call_context&, arguments) { return term(); });

  // What is called is looked at for itself, under any policy.
  add("apply", 2, [](call_context& c, arguments a) {
    go_deeper(c);
    return c.table.apply(c, a[0], a[1]);
  });
  add("apply", 3, [](call_context& c, arguments a) {
    go_deeper(c);
    return c.table.apply(c, a[0], a[1], a[2]);
  });
  const auto act = [&t](std::string_view name, unsigned arity, function f) {
    t.add("erlang", name, arity, std::move(f));
  };
  act("error", 1, [](call_context&, arguments a) -> term {
    throw raised(exception_class::error, a[0]);
  });
  act("error", 2, [](call_context&, arguments a) -> term {
    throw raised(exception_class::error, a[0]);
  });
  act("exit", 1, [](call_context&, arguments a) -> term {
    throw raised(exception_class::exit, a[0]);
  });
  act("throw", 1, [](call_context&, arguments a) -> term {
    throw raised(exception_class::thrown, a[0]);
  });
  act("exit", 2, [](call_context&, arguments a) -> term {
    esp::exit(pid_of(a[0]), a[1]);
    return yes;
  });

  add("whereis", 1, [](call_context& c, arguments a) -> term {
    const auto p = c.home.whereis(atom_of(a[0]));
    return p ? term(p->pid()) : term(undefined);
  });
  add("registered", 0, [](call_context& c, arguments) {
    return list_of(c.home.registered(), [](atom n) { return term(n); });
  });
  add("function_exported", 3, [](call_context& c, arguments a) {
    if (a[2].kind() != kind::integer)
      badarg();
    const auto arity = a[2].as_integer();
    if (!arity || *arity < 0) // no function has it
      return boolean(false);
    return boolean(c.table.has(atom_of(a[0]), atom_of(a[1]),
                               static_cast<std::size_t>(*arity)));
  });
  // There is nothing to collect, at any time.
  add("port_info", 1,
      [](call_context& c, arguments a) { return port_info(c, a[0]); });
  add("port_info", 2,
      [](call_context& c, arguments a) { return port_info(c, a[0]); });
  add("garbage_collect", 0, [](call_context&, arguments) { return yes; });
  add("garbage_collect", 1, [](call_context& c, arguments a) {
    return boolean(process_of(c, a[0]) != nullptr);
  });
  t.add(
      "net_adm", "localhost", 0,
      [](call_context& c, arguments) {
        const auto name = c.home.name().name();
        return term::string(name.substr(name.find('@') + 1));
      },
      effect::looks);
  t.add("timer", "sleep", 1, [](call_context&, arguments a) -> term {
    static const atom timeout_value("timeout_value");
    const auto ms = a[0].as_integer();
    if (a[0].is_atom("infinity"))
      esp::sleep(infinity);
    else if (!ms || *ms < 0)
      throw raised(exception_class::error, timeout_value,
                   stack_of(atom("timer"), atom("sleep"), term::integer(1)));
    else
      esp::sleep(milliseconds(*ms));
    return atom("ok");
  });
}

} // namespace esp::served
