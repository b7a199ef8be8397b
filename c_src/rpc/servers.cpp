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

term exited(const term& reason) {
  static const atom badrpc("badrpc"), exit_("EXIT");
  return term::tuple({badrpc, term::tuple({exit_, reason})});
}

// What comes of {Tag, M, F, A, Leader}, evaluated here for node `caller`.
term caught(const function_table& table, const term& request, atom caller) {
  static const atom system_limit("system_limit");
  const auto parts = request.elements();
  node::process& me = *node::process::current();
  call_context c{me.home(), me, table, caller};
  try {
    return table.apply(c, parts[1], parts[2], parts[3]);
  } catch (const raised& e) {
    if (e.of_class() == exception_class::thrown)
      return e.reason();
    return exited(e.reason() == term(system_limit) ? e.reason() : uncaught(e));
  } catch (const exit_signal& e) {
    if (!me.is_alive())
      throw;
    return exited(e.reason());
  }
}

// A process of rex's, which does what erpc's would.
void begin(node::process& p, std::string_view does, int arity,
           const term& leader) {
  static const atom erpc("erpc"), rex_("rex");
  p.set_origin(term::tuple({erpc, atom(does), term::integer(arity)}), {rex_});
  if (const auto l = leader.as_pid())
    p.receive_leader(*l);
  p.kick();
}

// While it lives the process has the group leader of who asked.
class led {
public:
  led(node::process& p, const term& leader) : p_(p), before_(p.leader()) {
    if (const auto l = leader.as_pid())
      p_.receive_leader(*l);
  }
  led(const led&) = delete;
  led& operator=(const led&) = delete;
  ~led() { p_.receive_leader(before_); }

private:
  node::process& p_;
  const esp::pid before_;
};

} // namespace

server::server(node::node& home, std::uint64_t number, atom name)
    : special_process(home, number), name_(name) {
  set_origin(term::tuple({name, atom("init"), term::integer(1)}), {});
}

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

// The node that sent it goes along: what a message says of that is the
// sender's to choose.
std::optional<std::pair<node::message_ptr, node::lane>>
rex::accept(term m, const std::optional<esp::pid>& from) {
  auto kept = server::accept(std::move(m), from);
  if (kept && kept->second == node::lane::data)
    return data(term::tuple(
        {from ? from->node : atom(), kept->first->value.to_term()}));
  return kept;
}

void rex::handle_data(node::message_ptr m) {
  const auto parts = m->value.to_term().elements();
  const auto caller = *parts[0].as_atom();
  const term& t = parts[1];
  try {
    if (t.is_tagged("$gen_call", 3)) {
      if (request(caller, t.element(1), t.element(2)))
        return;
    } else if (t.is_tagged("$gen_cast", 2)) {
      if (t.element(1).is_tagged("cast", 5))
        return cast(caller, t.element(1));
    } else if (t.kind() == kind::tuple && t.arity() == 2) {
      if (const auto from = t.element(0).as_pid();
          from && message(caller, *from, t.element(1)))
        return;
    }
    unknown(t);
  } catch (const exit_signal&) {
    // it has been told to end, and run() sees to it
  }
}

bool rex::request(atom caller, const term& from, const term& what) {
  if (what.is_tagged("block_call", 5)) {
    const led by(*this, what.element(4));
    home().reply(pid(), from, caught(table_, what, caller));
    return true;
  }
  if (!what.is_tagged("call", 5))
    return false;
  call(caller, what, [from](node::node& home, const term& value) {
    home.reply(home.pid_of(0), from, value);
  });
  return true;
}

bool rex::message(atom caller, const esp::pid& from, const term& what) {
  static const atom rex_("rex"), features("features_reply"), erpc("erpc");
  if (what.is_atom("features_request")) {
    home().send_message(
        pid(), from,
        term::tuple({features, home().name(),
                     term::list(std::initializer_list<term>{erpc})}));
    return true;
  }
  if (what.is_tagged("sbcast", 3) || what.is_tagged("send", 3)) {
    name_send(from, what);
    return true;
  }
  if (!what.is_tagged("call", 5))
    return false;
  call(caller, what, [from](node::node& home, const term& value) {
    home.send_message(home.pid_of(0), from, term::tuple({rex_, value}));
  });
  return true;
}

void rex::call(atom caller, const term& what,
               std::function<void(node::node&, const term&)> reply) {
  static const atom system_limit("system_limit");
  try {
    const auto p = home().spawn<node::spawned_process>(
        [&home = home(), &table = table_, caller, what, reply] {
          try {
            reply(home, caught(table, what, caller));
          } catch (const exit_signal& e) { // somebody else's; the caller waits
            reply(home, exited(e.reason()));
            throw;
          }
        },
        text_of(what.element(1), what.element(2), what.element(3)));
    begin(*p, "execute_call", 4, what.element(4));
  } catch (const std::system_error&) {
    reply(home(), exited(system_limit));
  }
}

void rex::cast(atom caller, const term& what) {
  const auto parts = what.elements();
  try {
    const auto p = home().spawn<node::spawned_process>(
        [&table = table_, w = work{parts[1], parts[2], parts[3], caller}] {
          evaluate(table, w);
        },
        text_of(parts[1], parts[2], parts[3]));
    begin(*p, "execute_cast", 3, parts[4]);
  } catch (const std::system_error&) {
    unknown(what); // there is no room for it, and nobody to tell
  }
}

// {sbcast, Name, Message}: rpc:sbcast/2,3 wants to hear from each node.
// {send, Name, Message}: as by rpc:multi_server_call/3, whose Name answers.
void rex::name_send(const esp::pid& from, const term& what) {
  static const atom rex_("rex"), nonexisting("nonexisting_name");
  const auto name = what.element(1).as_atom();
  const bool is_broadcast = what.is_tagged("sbcast", 3);
  const term wrong = term::tuple({nonexisting, what.element(1)});
  if (!name || !home().whereis(*name))
    return home().send_message(pid(), from,
                               term::tuple({rex_, home().name(), wrong}));
  home().send_message(pid(), *name, home().name(),
                      is_broadcast ? what.element(2)
                                   : term::tuple({from, what.element(2)}));
  if (is_broadcast)
    home().send_message(pid(), from,
                        term::tuple({rex_, home().name(), home().name()}));
}

} // namespace esp::served
