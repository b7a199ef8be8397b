#include "coop/head.hpp"

#include "esp/process.hpp"

#include "base/log.hpp"
#include "coop/kill_switch.hpp"
#include "coop/own_messages.hpp"
#include "node/remote_call.hpp"
#include "node/spawned.hpp"

#include <algorithm>
#include <mutex>

namespace esp::coop {

namespace {

// What a relaying VM may have on its way to one head (design, section 6).
constexpr std::uint64_t relay_bytes = 256u << 10;
constexpr std::uint64_t priority_bytes = 64u << 10;
// Of one sender. A VM that relays has two.
constexpr unsigned max_edges = 4;

std::vector<atom> with_head(std::vector<atom> modules) {
  modules.insert(modules.begin(), atom("coop_head"));
  return modules;
}

node::message_ptr to_self(const term& t) {
  return std::make_unique<node::message>(node::what::exit, datum::of(term(t)));
}

} // namespace

head::head(node::node& home, std::uint64_t number, queue_limits limits,
           const spec& s)
    : member(home, number, atom("head"), limits, nullptr),
      overload_(s.overload, limits.data, limits.bytes),
      modules_(with_head(s.modules)),
      instances_(s.instances),
      method_(s.method) {
  if (overload_.looks_at_arrivals())
    look_at_arrivals();
}

void head::set_switches(std::vector<esp::pid> switches) {
  const std::lock_guard guard(switches_lock_);
  switches_ = std::move(switches);
}

void head::founded(founding&& f) {
  nodes_ = std::move(f.nodes);
  edges_ = std::move(f.edges);
  body_ = std::move(f.body);
  if (f.demand_of)
    demand_.emplace(monitor(*f.demand_of, f.demand_of->node), demand());
}

// Toward exit signals it is a gen_server that does not trap: any abnormal
// reason ends it, its parent's exit and its kill switches' end it even with
// `normal`. It cannot just stop, though: it sees its co-op down first.
bool head::intercept_exit(const esp::pid& from, const term& reason,
                          bool by_link) {
  static const atom exit_("exit");
  const auto is_switch = [&] {
    const std::lock_guard guard(switches_lock_);
    return std::find(switches_.begin(), switches_.end(), from)
           != switches_.end();
  };
  const bool is_kin = by_link && (parent() == from || is_switch());
  if (!is_kin && reason.is_atom("normal"))
    return true; // ignored, as a process that does not trap does
  push(to_self(term::tuple({exit_, from, reason})), node::lane::control);
  return true;
}

void head::handle_request(node::message& m) {
  if (m.kind == node::what::exit) {
    const term t = m.value.as<term>();
    return switch_gone(*t.element(1).as_pid(), t.element(2));
  }
  if (m.kind == node::what::down) {
    const term t = m.value.as<term>();
    if (demand_ && t.element(1).as_ref() == demand_->first) {
      demand_->second.lose();
      return serve_demand();
    }
    if (const auto r = t.element(1).as_ref(); r && no_longer_held(*r))
      return;
    if (const auto gone = t.element(3).as_pid()) {
      drop_in_edges_from(*gone);
      attached_.erase(*gone);
    }
    return;
  }
  if (m.kind == node::what::barrier) { // from stop_entry()
    unwire();
    return body_->head_has_stopped();
  }
  if (m.kind == node::what::control && !m.value.empty()) {
    const term t = m.value.as<term>();
    if (own_request(t)
        || (t.is_tagged("$coop", 3)
            && about_holding(t.element(1), t.element(2))))
      return;
  }
  member::handle_request(m);
}

bool head::take(datum& d) {
  if (misfit_) {
    lose(d.to_term(), *std::exchange(misfit_, std::nullopt), env());
    return true;
  }
  if (body_ && env() && env()->call)
    calls_.insert(*env()->call);
  try {
    if (how() != nullptr)
      emit_on(instance(*std::exchange(due_, std::nullopt)), std::move(d));
    else
      emit(std::move(d));
  } catch (const exit_signal&) { // killed; run() ends it
  }
  return true;
}

// ---- Instances --------------------------------------------------------------

std::span<out_edge> head::instance(std::size_t i) {
  const std::size_t width = out_edges().size() / instances_;
  return out_edges().subspan(i * width, width);
}

// A head does not wait for credit with a datum in its hands, or it would answer
// nothing meanwhile: the datum stays the first of those that wait.
bool head::can_take_data() {
  if (held_by_)
    return false;
  if (how() == nullptr)
    return have_credit(out_edges());
  if (due_)
    return have_credit(instance(*due_));
  for (std::size_t i = 0; i < instances_; ++i)
    if (have_credit(instance(i)))
      return true;
  return false;
}

// The first datum: whether its instance, which is chosen if none is due, has
// credit. One that cannot be placed need not wait.
bool head::may_enter(node::message& m) {
  if (how() == nullptr || m.kind != node::what::data)
    return true;
  try {
    if (!due_)
      due_ = how()->choose(m.value, out_edges()).front();
  } catch (const bad_result& e) {
    misfit_ = e.reason();
    return true;
  }
  return have_credit(instance(*due_));
}

// The instance due by a key was another datum's; a turn is for whoever is
// first.
void head::first_changes() noexcept {
  if (how() != nullptr && how()->looks_at_data())
    due_.reset();
}

// ---- Restarts of the body ---------------------------------------------------

void head::stop_entry() {
  push(std::make_unique<node::message>(node::what::barrier, datum()),
       node::lane::control);
}

void head::barrier_enters(const term& caller) {
  if (body_)
    flushes_.emplace(caller, 0);
}

// {'$coop', flushed, Ref, Total}, as it went to the caller, or {'$coop',
// replied, From}.
void head::waits_no_more(const term& t) {
  if (t.arity() == 3) {
    calls_.erase(t.element(2));
    return;
  }
  const auto total = t.element(3).as_integer().value_or(0);
  const auto it =
      std::find_if(flushes_.begin(), flushes_.end(), [&](const auto& f) {
        return f.first.element(1) == t.element(2);
      });
  if (it != flushes_.end() && static_cast<std::int64_t>(++it->second) >= total)
    flushes_.erase(it);
}

// Neither a call nor a flush is for certain any more.
void head::rewired(const restart& r) {
  ++restarts_;
  losses_ += r.of_data;
  nodes_ = r.nodes;
  if (demand_)
    demand_->second.again(r.of_data.delivered);
  for (const auto& [caller, marks] : std::exchange(flushes_, {}))
    if (const auto to = caller.element(0).as_pid())
      home().send_message(pid(), *to,
                          own::restarted(caller.element(1), r.reason));
  for (const auto& from : std::exchange(calls_, {}))
    home().reply(pid(), from,
                 own::failed(term::tuple({atom("restarted"), r.reason})));
}

void head::ended(const term& reason) {
  body_.reset();
  member::ended(reason);
}

// ---- Changes of code --------------------------------------------------------

// {hold, Ref}: nothing more enters behind a barrier, with {From's pid, Ref} as
// its caller, until `release`, or that process's end. Ref is {hold, _}, by which
// nodes know that it is no flush.
bool head::about_holding(const term& from, const term& r) {
  static const atom ok("ok");
  const auto who = from.arity() == 2 ? from.element(0).as_pid() : std::nullopt;
  if (!who || !(r.is_tagged("hold", 2) || r.is_atom("release")))
    return false;
  const auto answer = [&](const term& a) { home().reply(pid(), from, a); };
  if (r.is_atom("release")) {
    if (held_by_ && held_by_->first == *who) {
      demonitor(held_by_->second);
      held_by_.reset();
    }
    answer(ok);
  } else if (held_by_ || !is_wired() || ending_) {
    answer(term::tuple({atom("error"), atom("busy")}));
  } else {
    held_by_.emplace(*who, monitor(*who, who->node));
    answer(ok);
    const term caller = term::tuple({*who, r.element(1)});
    barrier_enters(caller);
    pass_barrier(caller);
  }
  return true;
}

bool head::no_longer_held(const ref& r) {
  if (!held_by_ || held_by_->second != r)
    return false;
  held_by_.reset();
  return true;
}

// All its nodes are to change, in both homes: a process of the VM that asks sees
// to it (coop_upgrade.erl), and has this one hold what comes.
void head::change_code(const term& from, const term& request) {
  const auto caller = from.element(0).as_pid();
  if (!caller || request.element(1).is_atom("coop_head"))
    return special_process::change_code(from, request);
  const auto p = home().spawn<node::spawned_process>(
      [&home = home(), me = pid(), from, request, at = caller->node] {
        const auto done = node::remote_call(
            at, "coop_upgrade", "change_code",
            term::list({me, request.element(1), request.element(2),
                        request.element(3)}),
            infinity);
        const term answer =
            !done ? term::tuple({atom("error"), atom(esp::name(done.error().code))})
            : done->how == "return"
                ? done->value
                : term::tuple({atom("error"), done->value});
        home.reply(me, from, answer);
      },
      "change of code");
  p->receive_leader(leader());
  p->kick();
}

// {'$coop', Word, ...} with no {Pid, Tag} to answer.
bool head::own_request(const term& t) {
  const auto e = t.elements();
  const auto word = e.size() > 2 ? e[1].as_atom_name().value_or("") : "";
  const auto last = word.empty() ? 0 : e.back().as_integer().value_or(0);
  const auto n = static_cast<std::uint64_t>(std::max<std::int64_t>(0, last));
  if (word == "attach") {
    attach(t);
  } else if (word == "shed") { // what a VM has refused in our name
    overloaded_ += n;
  } else if (word == "flushed" || word == "replied") {
    waits_no_more(t);
  } else if (word == "ask" && demand_) {
    demand_->second.ask(n);
    serve_demand();
  } else if (word == "want" && demand_) {
    const auto who = e[2].as_pid();
    const auto edge = e[3].as_integer();
    if (who && edge && n > 0)
      demand_->second.want(*who, static_cast<std::uint32_t>(*edge), n);
    serve_demand();
  } else {
    return word == "ask" || word == "want";
  }
  return true;
}

void head::serve_demand() {
  for (const auto& g : demand_->second.serve())
    home().send_message(pid(), g.to, own::credit(g.edge, g.units));
}

void head::switch_gone(const esp::pid& from, const term& reason) {
  std::size_t gone = 0;
  {
    const std::lock_guard guard(switches_lock_);
    gone = std::erase(switches_, from);
  }
  begin_end(reason);
  if (gone > 0 && switches().empty() && ending_)
    finish(*ending_);
}

void head::begin_end(const term& reason) {
  if (ending_)
    return;
  ending_ = reason;
  set_suspended(true); // what has not entered does not enter any more
  const auto all = switches();
  for (const auto& s : all)
    home().send(dist::exit2{pid(), s, reason, std::nullopt, false});
  if (all.empty())
    finish(reason);
}

std::vector<esp::pid> head::switches() const {
  const std::lock_guard guard(switches_lock_);
  return switches_;
}

// ---- Overload ---------------------------------------------------------------

void head::arrived(node::message& first) {
  for (node::message* m = &first; m != nullptr; m = m->next) {
    overload_.came(*m);
    if (overload_.drops_oldest())
      give_back_early(*m);
  }
  tell_relays();
  while (overload_.drops_oldest() && overload_.is_too_much(queued_data())) {
    auto oldest = take_out([](const node::message& m) {
      return m.kind == node::what::data && !m.urgent;
    });
    if (!oldest)
      return;
    first_changes();
    leaves_queue(*oldest);
    overload_.leaves(*oldest);
    drop(std::move(oldest));
  }
}

void head::handle_data(node::message_ptr m) {
  if (m->kind == node::what::barrier)
    return; // a stranger's: barriers begin here
  const bool is_late = overload_.is_late(*m);
  if (!is_late && !may_enter(*m)) {
    node::message_list first;
    first.push_back(std::move(m));
    return unread(std::move(first));
  }
  if (overload_.looks_at_arrivals()) {
    overload_.leaves(*m);
    tell_relays();
  }
  if (!is_late)
    return member::handle_data(std::move(m));
  first_changes();
  leaves_queue(*m);
  give_back_early(*m);
  drop(std::move(m));
}

void head::drop(node::message_ptr m) {
  static const atom overloaded("overloaded");
  ++overloaded_;
  const token_scope under(*this, m->env);
  lose(m->value.to_term(), overloaded, m->env);
}

void head::tell_relays() {
  if (const auto is_over = overload_.news(queued_data()))
    for (const auto& e : in_edges())
      if (e.from)
        home().send_message(pid(), *e.from,
                            own::overload(e.sender_number, *is_over));
}

// {'$coop', attach, Pid, Edge, relay | priority | edge}
void head::attach(const term& request) {
  const auto e = request.elements();
  const auto who = e[2].as_pid();
  const auto edge = e[3].as_integer();
  if (!who || !edge || *edge < 0 || *edge > 0xFFFFFFFF)
    return;
  const auto [at, is_new] = attached_.try_emplace(*who);
  if (at->second == max_edges) {
    static base::log_limiter limiter;
    return limiter.log(base::log_level::warning, term(*who).to_string()
                                                     + " attaches too often to "
                                                     + term(pid()).to_string());
  }
  ++at->second;
  in_edge in;
  in.number = next_edge_++;
  in.sender_number = static_cast<std::uint32_t>(*edge);
  in.from = *who;
  in.window = e[4].is_atom("relay")      ? relay_bytes
              : e[4].is_atom("priority") ? priority_bytes
                                         : window();
  if (is_new)
    (void)monitor(*who, who->node);
  home().send_message(
      pid(), *who,
      own::attached(in.sender_number, in.number, in.window, overload_.rule()));
  if (overload_.is_over())
    home().send_message(pid(), *who, own::overload(in.sender_number, true));
  add_in_edge(std::move(in));
}

otp::answer head::state() {
  return describe(more_info());
}

atom head::module() const {
  static const atom m("coop_head");
  return m;
}

atom head::role() const {
  static const atom r("head");
  return r;
}

std::vector<std::pair<term, term>> head::more_info() {
  const auto count = [](std::uint64_t n) {
    return term::integer(static_cast<std::int64_t>(n));
  };
  std::vector<term> nodes, kill_switches;
  for (const auto& [name, p] : nodes_)
    nodes.push_back(term::tuple({name, p}));
  for (const auto& s : switches())
    kill_switches.emplace_back(s);
  std::vector<std::pair<term, term>> all{
      {atom("nodes"), term::list(nodes)},
      {atom("edges"), edges_},
      {atom("switches"), term::list(kill_switches)},
      {atom("instances"), count(instances_)},
      {atom("dataflow"), method_},
      {atom("home"), home().name()},
      {atom("overload"), overload_.describe()},
      {atom("overloaded"), count(overloaded_)},
      {atom("relays"), count(attached_.size())},
      {atom("restarts"), count(restarts_)},
      {atom("losses"), losses_.describe()}};
  if (demand_)
    all.emplace_back(atom("demand"), demand_->second.describe());
  return all;
}

} // namespace esp::coop
