// include/esp/process.hpp, for the process whose fiber this is.

#include "esp/process.hpp"

#include "node/node.hpp"
#include "node/remote_call.hpp"
#include "node/spawned.hpp"

#include <atomic>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>

namespace esp {

namespace {

using node::process;
using time_point = process::clock::time_point;

process& here() {
  process* const me = process::current();
  if (me == nullptr)
    throw std::logic_error("esp: called off a process's fiber");
  return *me;
}

// Of a process told to end, the first call throws exit_signal and so does
// every later one; but destructors, which run while it does or after it, may
// still say good-bye.
process& alive() {
  process& me = here();
  if (std::uncaught_exceptions() == 0 && !me.is_finalizing())
    me.check_exit();
  return me;
}

// Of calls that wait: these never do so for a process that is ending.
process& awake() {
  process& me = here();
  me.check_exit();
  return me;
}

// `infinity` does not fit the clock's ticks: compared in its own.
time_point deadline(milliseconds timeout) {
  const auto now = process::clock::now();
  const auto left = std::chrono::floor<milliseconds>(time_point::max() - now);
  return timeout >= left ? time_point::max() : now + timeout;
}

struct target {
  dist::pid_or_name to;
  atom at;
};

target target_of(const destination& d, const node::node& home) {
  if (const auto* p = std::get_if<pid>(&d))
    return {*p, p->node};
  if (const auto* n = std::get_if<atom>(&d))
    return {*n, home.name()};
  const auto& [n, at] = std::get<std::pair<atom, atom>>(d);
  return {n, at};
}

void send_to(process& me, const target& t, const term& message) {
  if (const auto* p = std::get_if<pid>(&t.to))
    me.send(*p, message);
  else
    me.send(std::get<atom>(t.to), t.at, message);
}

// Waits while too much waits for the socket. One that is ending does not.
void respect(process& me, atom at_node) {
  if (at_node == me.home().name() || !me.is_alive())
    return;
  const auto p = me.home().connections().find(at_node);
  if (!p || !p->is_congested())
    return;
  const auto drained = std::make_shared<std::atomic<bool>>(false);
  p->on_drain([drained, who = node::process_ptr(&me)] {
    drained->store(true);
    who->kick();
  });
  me.block([&drained] { return drained->load(); });
}

// An alias, or a request's reference, of which `me` expects answers.
class expected {
public:
  expected(process& me, const ref& r, atom at_node) : me_(me), ref_(r) {
    me_.expect(r, at_node);
  }
  expected(const expected&) = delete;
  expected& operator=(const expected&) = delete;
  ~expected() { me_.forget(ref_); }

private:
  process& me_;
  const ref ref_;
};

errc code_of(const term& reason) {
  if (reason.is_atom("noproc"))
    return errc::noproc;
  if (reason.is_atom("noconnection"))
    return errc::noconnection;
  return errc::refused;
}

error error_of(const term& reason) {
  return {code_of(reason), reason.to_string()};
}

} // namespace

void exit(term reason) {
  (void)here();
  throw exit_signal(std::move(reason));
}

pid self() {
  return here().pid();
}
atom this_node() {
  return here().home().name();
}
ref make_ref() {
  return here().home().make_ref();
}

void send(const destination& to, const term& message) {
  process& me = alive();
  const target t = target_of(to, me.home());
  send_to(me, t, message);
  respect(me, t.at);
}

std::optional<term> receive(const std::function<bool(const term&)>& matches,
                            milliseconds timeout) {
  return awake().receive(matches, deadline(timeout));
}

void sleep(milliseconds duration) {
  (void)awake().block([] { return false; }, deadline(duration));
}

result<term> call(const destination& to, const term& request,
                  milliseconds timeout) {
  static const atom label("$gen_call");
  auto got = node::gen_call(label, to, request, timeout);
  if (got.reply)
    return *std::move(got.reply);
  if (got.down)
    return error_of(*got.down);
  return {errc::timeout, "no reply in time"};
}

// One reference is the monitor and the alias, as gen:call has it: what comes
// under it is the reply or the DOWN, and later ones find nobody.
node::gen_outcome node::gen_call(atom label, const destination& to,
                                 const term& request, milliseconds timeout) {
  static const atom alias("alias");
  process& me = awake();
  auto& home = me.home();
  const time_point until = deadline(timeout);
  const target t = target_of(to, home);
  const ref id = home.make_alias(me);
  struct closing {
    process& me;
    const target& t;
    const ref& id;
    bool is_down = false;
    ~closing() {
      me.home().drop_alias(id);
      if (!is_down)
        me.home().send_demonitor(me.pid(), t.to, t.at, id);
    }
  } open{me, t, id};
  const expected answers(me, id, t.at);
  home.send_monitor(me.pid(), t.to, t.at, id);
  const term tag = term::list(std::initializer_list<term>{alias}, id);
  send_to(me, t,
          term::tuple({label, term::tuple({me.pid(), tag}), request}));
  const auto got = me.await(id, until);
  if (!got)
    return {};
  if (!got->is_tagged("DOWN", 5))
    return {got->element(1), std::nullopt};
  open.is_down = true;
  return {std::nullopt, got->element(4)};
}

void reply(const term& from, const term& answer) {
  process& me = alive();
  me.home().reply(me.pid(), from, answer);
  if (const auto caller = from.element(0).as_pid())
    respect(me, caller->node);
}

namespace {

// A process there that answers for the group: the one we have if it is there,
// else `init`, which passes on to `user` what it is asked to print.
result<pid> leader_at(process& me, atom at, time_point until) {
  node::node& home = me.home();
  const pid mine = me.leader();
  if (mine.node == at)
    return mine;
  if (at == home.name())
    return pid{at, 0, 0, home.creation()};
  auto p = home.connections().find(at);
  if (!p) {
    // Only a connection tells which life of that node it is.
    const auto left = std::chrono::duration_cast<milliseconds>(
        std::min(until, process::clock::now() + std::chrono::hours(24))
        - process::clock::now());
    const auto greeted =
        call(std::pair(atom("net_kernel"), at),
             term::tuple({atom("is_auth"), home.name()}), left);
    if (!greeted && greeted.error().code != errc::noproc)
      return greeted.error();
    p = home.connections().find(at);
  }
  if (!p)
    return {errc::noconnection, "lost"};
  return pid{at, 0, 0, p->creation()};
}

// {Res, return, V} and its like; see erpc.erl, execute_call/4.
result<node::outcome> outcome_of(const term& res, const term& reason) {
  const auto parts = reason.elements();
  const auto how = parts.size() < 3 || parts[0] != res ? std::nullopt
                                                       : parts[1].as_atom();
  if (!how)
    return error_of(reason);
  return node::outcome{*how, parts[2]};
}

} // namespace

namespace node {

result<outcome> remote_call(atom at, std::string_view module,
                            std::string_view function, const term& args,
                            milliseconds timeout) {
  static const atom erpc("erpc"), execute_call("execute_call"),
      monitor_("monitor");
  process& me = awake();
  node& home = me.home();
  const time_point until = deadline(timeout);
  const auto leader = leader_at(me, at, until);
  if (!leader)
    return leader.error();
  const ref id = home.make_ref();
  const term res = home.make_ref();
  std::optional<pid> worker;
  bool is_down = false;
  const expected answers(me, id, at);
  dist::spawn_request request;
  request.ref = id;
  request.from = me.pid();
  request.leader = *leader;
  request.module = erpc;
  request.function = execute_call;
  request.arity = 4;
  request.options = term::list(std::initializer_list<term>{monitor_});
  request.args =
      term::list({res, atom(module), atom(function), args});
  home.send_spawn_request(at, request);
  struct closing {
    process& me;
    const ref& id;
    atom at;
    const std::optional<pid>& worker;
    const bool& is_down;
    ~closing() {
      if (worker && !is_down)
        me.home().send_demonitor(me.pid(), *worker, at, id);
    }
  } const open{me, id, at, worker, is_down};
  for (;;) {
    const auto got = me.await(id, until);
    if (!got)
      return {errc::timeout, "no result in time"};
    if (got->is_tagged("spawn_reply", 3)) {
      worker = got->element(2).as_pid();
      if (worker)
        continue;
      return error_of(got->element(2)); // notsup, badopt, system_limit
    }
    is_down = true;
    return outcome_of(res, got->element(4));
  }
}

} // namespace node

result<term> rpc(atom at, std::string_view module, std::string_view function,
                 std::initializer_list<term> args, milliseconds timeout) {
  auto done = node::remote_call(at, module, function, term::list(args),
                                timeout);
  if (!done)
    return done.error();
  if (done->how == "return")
    return std::move(done->value);
  return {errc::refused, std::string(done->how.name()) + ":"
                             + done->value.to_string()};
}

namespace {

// As a message, which is what erts shows of a spawn.
void hand_token_on(process& me, process& child) {
  static const term function =
      term::tuple({atom("esp"), atom("spawn"), term::integer(1)});
  static const atom request("spawn_request"), reply("spawn_reply");
  const term asked =
      term::tuple({request, me.home().make_ref(), me.pid(), me.leader(),
                   function, term(), reply, term()});
  if (const auto token = me.seq_send(child.pid(), asked))
    child.inherit_token(*token, asked);
}

boost::intrusive_ptr<node::spawned_process>
make_child(process& me, std::function<void()> body) {
  auto child = me.home().spawn<node::spawned_process>(std::move(body));
  child->receive_leader(me.leader());
  std::vector<term> ancestors{me.name() == atom() ? term(me.pid())
                                                  : term(me.name())};
  if (const auto* o = me.where_from())
    ancestors.insert(ancestors.end(), o->ancestors.begin(), o->ancestors.end());
  static const term initial =
      term::tuple({atom("esp"), atom("spawn"), term::integer(1)});
  child->set_origin(initial, std::move(ancestors));
  child->hold(me.code()); // which `body` is of
  if (me.has_token())
    hand_token_on(me, *child);
  return child;
}

} // namespace

pid spawn(std::function<void()> body) {
  const auto child = make_child(alive(), std::move(body));
  child->kick();
  return child->pid();
}

pid spawn_link(std::function<void()> body) {
  process& me = alive();
  const auto child = make_child(me, std::move(body));
  child->receive_link(me.pid());
  if (!me.receive_link(child->pid(), true)) { // killed meanwhile: takes it along
    static const atom killed("killed");
    child->end(killed);
  }
  child->kick();
  return child->pid();
}

void link(const pid& to) {
  process& me = alive();
  if (to != me.pid())
    me.link(to);
}

void unlink(const pid& from) {
  alive().unlink(from);
}

ref monitor(const destination& to) {
  process& me = alive();
  const target t = target_of(to, me.home());
  return me.monitor(t.to, t.at);
}

void demonitor(const ref& monitor) {
  alive().demonitor(monitor);
}

void exit(const pid& to, const term& reason) {
  process& me = alive();
  me.home().send(dist::exit2{me.pid(), to, reason, std::nullopt});
  (void)alive(); // it may have been this very process
}

bool trap_exit(bool on) {
  return alive().trap_exit(on);
}

bool register_name(atom name) {
  process& me = alive();
  return me.home().register_name(name, node::process_ptr(&me));
}

std::optional<pid> whereis(atom name) {
  const auto p = alive().home().whereis(name);
  return p ? std::optional(p->pid()) : std::nullopt;
}

bool seq_trace_print(const term& info) {
  return alive().seq_print(info);
}

} // namespace esp
