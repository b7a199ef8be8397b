#include "rpc/servers.hpp"

#include "esp/process.hpp"

#include "base/log.hpp"
#include "node/spawned.hpp"
#include "rpc/erpc.hpp"

#include <system_error>

namespace esp::served {

namespace {

// Strangers can cause these.
base::log_limiter& lines() {
  static base::log_limiter limiter;
  return limiter;
}

// {Tag, M, F, A, Leader}
struct remote_call {
  atom module, name;
  std::vector<term> args;
  pid leader;
};
std::optional<remote_call> call_of(const term& t, const pid& us) {
  const auto parts = t.elements();
  if (parts.size() != 5)
    return std::nullopt;
  const auto module = parts[1].as_atom(), name = parts[2].as_atom();
  auto args = parts[3].as_list();
  if (!module || !name || !args)
    return std::nullopt;
  return remote_call{*module, *name, std::move(*args),
                     parts[4].as_pid().value_or(us)};
}

// As `catch apply(M, F, A)` and {badrpc, {'EXIT', Reason}} for what fails.
term caught(const function_table& table, const remote_call& r) {
  static const atom badrpc("badrpc"), exit_("EXIT");
  node::process& me = *node::process::current();
  call_context c{me.home(), me, table};
  const auto failed = [](const term& reason) {
    return term::tuple({badrpc, term::tuple({exit_, reason})});
  };
  try {
    return table.call(c, r.module, r.name, r.args);
  } catch (const raised& e) {
    return e.of_class() == exception_class::thrown ? e.reason()
                                                   : failed(uncaught(e));
  } catch (const exit_signal& e) {
    if (!me.is_alive())
      throw;
    return failed(e.reason());
  }
}

} // namespace

server::server(node::node& home, std::uint64_t number, atom name)
    : special_process(home, number), name_(name) {}

otp::answer server::state() {
  return term(atom("undefined"));
}
void server::handle_request(node::message& m) {
  if (!m.value.empty())
    unknown(m.value.to_term());
}
std::optional<std::pair<node::message_ptr, node::lane>>
server::accept_own(term message) {
  unknown(message);
  return std::nullopt;
}
void server::unknown(const term& message) {
  lines().log(base::log_level::info,
              doing() + " dropped " + message.to_string(200));
}

std::optional<std::pair<node::message_ptr, node::lane>>
net_kernel::accept(term m, const std::optional<esp::pid>& from) {
  static const atom yes("yes");
  if (m.is_tagged("$gen_call", 3) && m.element(2).is_tagged("is_auth", 2)) {
    home().reply(pid(), m.element(1), yes);
    return std::nullopt;
  }
  return server::accept(std::move(m), from);
}

void net_kernel::handle_data(node::message_ptr m) {
  unknown(m->value.to_term());
}

void rex::handle_data(node::message_ptr m) {
  const term t = m->value.to_term();
  try {
    if (t.is_tagged("$gen_call", 3)) {
      if (request(t.element(1), t.element(2)))
        return;
    } else if (t.is_tagged("$gen_cast", 2)) {
      if (cast(t.element(1)))
        return;
    } else if (t.kind() == kind::tuple && t.arity() == 2
               && t.element(1).is_atom("features_request")) {
      if (const auto to = t.element(0).as_pid()) {
        static const atom tag("features_reply"), erpc("erpc");
        return home().send_message(
            pid(), *to,
            term::tuple({tag, home().name(),
                         term::list(std::initializer_list<term>{erpc})}));
      }
    }
    unknown(t);
  } catch (const exit_signal&) {
    // it has been told to end, and run() sees to it
  }
}

bool rex::request(const term& from, const term& what) {
  const auto r = call_of(what, pid());
  if (!r)
    return false;
  if (what.is_tagged("block_call", 5)) {
    home().reply(pid(), from, caught(table_, *r));
    return true;
  }
  if (!what.is_tagged("call", 5))
    return false;
  try {
    const auto p = home().spawn<node::spawned_process>(
        [&table = table_, from, r = *r] { esp::reply(from, caught(table, r)); },
        "rpc");
    p->receive_leader(r->leader);
    p->kick();
  } catch (const std::system_error&) {
    static const atom badrpc("badrpc"), system_limit("system_limit");
    home().reply(pid(), from, term::tuple({badrpc, system_limit}));
  }
  return true;
}

bool rex::cast(const term& what) {
  const auto r = call_of(what, pid());
  if (!r || !what.is_tagged("cast", 5))
    return false;
  (void)spawn_call(home(), table_, r->module, r->name, r->args, r->leader);
  return true;
}

} // namespace esp::served
