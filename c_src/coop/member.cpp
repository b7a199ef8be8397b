#include "coop/member.hpp"

#include "esp/process.hpp"

#include "base/log.hpp"
#include "coop/kill_switch.hpp"
#include "coop/own_messages.hpp"
#include "coop/traced_task.hpp"
#include "node/tracing.hpp"

#include <algorithm>

namespace esp::coop {

using node::lane;
using node::message;
using node::message_ptr;
using node::what;

namespace {

constexpr std::size_t long_burst = 1'024; // data

// A number of an edge or of units; -1 is none.
std::int64_t count_in(const term& t) {
  const auto n = t.as_integer().value_or(-1);
  return n > 0xFFFFFFFF ? -1 : n;
}

// Strangers can cause these lines.
base::log_limiter& limiter() {
  static base::log_limiter l;
  return l;
}

// Came by `!`, which is a term and has no edge.
bool is_plain(const message& m) noexcept {
  return m.edge == node::no_edge && m.kind == what::data
         && m.value.holds<term>();
}
std::size_t size_of(const message& m) noexcept {
  return m.value.as<term>().bytes().size();
}

std::uint64_t count_data(const node::message_list& l) noexcept {
  std::uint64_t n = 0;
  for (const message* m = l.front(); m != nullptr; m = m->next)
    n += m->kind == what::data ? 1 : 0;
  return n;
}

message_ptr make(what kind, term value) {
  return std::make_unique<message>(kind, datum::of(std::move(value)));
}

} // namespace

member::member(node::node& home, std::uint64_t number, atom name,
               queue_limits limits, kill_switch_ptr k, bool is_late)
    : special_process(home, number),
      switch_(std::move(k)),
      name_in_template_(name),
      limits_(limits),
      is_late_(is_late) {}

member::~member() = default;

// ---- Arriving, on any thread -----------------------------------------------

// A plain `!` has no credit: what would grow the queue past its bound is shed.
std::optional<std::pair<message_ptr, lane>>
member::accept(term m, const std::optional<esp::pid>& from) {
  auto accepted = special_process::accept(std::move(m), from);
  if (!accepted || accepted->second != lane::data
      || !is_plain(*accepted->first))
    return accepted;
  const std::size_t bytes = size_of(*accepted->first);
  // Some may be there with priority, which are not counted as data yet.
  if (queued_data() + queued_control() < limits_.data
      && plain_bytes_.load(std::memory_order_relaxed) + bytes
             <= limits_.bytes) {
    plain_bytes_.fetch_add(bytes, std::memory_order_relaxed);
    return accepted;
  }
  static const atom overloaded("overloaded");
  lose(accepted->first->value.as<term>(), overloaded);
  return std::nullopt;
}

void member::lose(const term& datum, const term& reason,
                  const node::envelope_ptr& env) {
  dropped_.fetch_add(1, std::memory_order_relaxed);
  if (limits_.beyond->send(pid(), name_in_template_, datum, reason))
    dead_lettered_.fetch_add(1, std::memory_order_relaxed);
  if (env && env->call)
    home().reply(pid(), *env->call, own::failed(reason));
  if (limiter().admits(base::log_level::warning))
    base::log(base::log_level::warning,
              "data dropped by " + term(pid()).to_string() + " ("
                  + std::string(name_in_template_.name())
                  + "): " + reason.to_string(200));
}

void member::leaves_queue(const message& m) noexcept {
  if (is_plain(m))
    plain_bytes_.fetch_sub(size_of(m), std::memory_order_relaxed);
}

void member::not_understood(const term& t) {
  limiter().log(base::log_level::warning, "not understood by "
                                              + term(pid()).to_string() + ": "
                                              + t.to_string(200));
}

std::optional<std::pair<message_ptr, lane>> member::accept_own(term t) {
  const auto e = t.elements();
  const auto unknown = [&]() -> std::optional<std::pair<message_ptr, lane>> {
    not_understood(t);
    return std::nullopt;
  };
  if (e.size() < 3)
    return unknown();
  if (e.size() == 3 && e[1].kind() == kind::tuple)
    return control(std::move(t));
  const auto word = e[1].as_atom_name().value_or("");
  std::int64_t edge = e.size() > 3 ? count_in(e[2]) : -1;
  if (edge >= node::no_edge)
    edge = -1; // that is the number of none
  const auto number = static_cast<std::uint32_t>(edge);
  if ((word == "data" || word == "priority") && e.size() == 6) {
    const std::int64_t units = count_in(e[3]);
    if (edge < 0 || units < 0)
      return unknown();
    auto m = make(what::data, e[5]);
    m->edge = number;
    m->units = static_cast<std::uint32_t>(units);
    m->env = own::read_envelope(e[4]);
    return std::pair(std::move(m), word == "data" ? lane::data : lane::urgent);
  }
  if (word == "batch" && e.size() == 6) {
    const std::int64_t units = count_in(e[3]);
    const auto all = e[5].as_list();
    if (edge < 0 || units < 0 || !all)
      return unknown();
    return accept_batch(*all, number, static_cast<std::uint32_t>(units),
                        own::read_envelope(e[4]));
  }
  const auto is_caller = [](const term& c) {
    return c.kind() == kind::tuple && c.arity() == 2;
  };
  if (word == "barrier" && e.size() == 4 && edge >= 0 && is_caller(e[3])) {
    auto m = make(what::barrier, e[3]);
    m->edge = number;
    return std::pair(std::move(m), lane::data);
  }
  if (word == "flush" && e.size() == 3 && is_caller(e[2]))
    return std::pair(make(what::flush, e[2]), lane::data);
  using news = returned_credit::word;
  const auto hear = [this](std::vector<returned_credit> all) {
    {
      const std::lock_guard guard(inbox_);
      credit_in_.insert(credit_in_.end(), all.begin(), all.end());
      has_credit_in_.store(true, std::memory_order_release);
    }
    kick();
  };
  if ((word == "credit" && e.size() == 4)
      || (word == "attached" && e.size() == 6)) {
    const std::int64_t second = count_in(e[3]);
    const std::int64_t units = e.size() == 6 ? count_in(e[4]) : second;
    if (edge < 0 || second < 0 || units < 0)
      return unknown();
    const bool is_attached = e.size() == 6;
    hear({{number,
           static_cast<std::uint64_t>(units),
           is_attached ? news::attached : news::credit,
           is_attached ? static_cast<std::uint32_t>(second) : 0,
           {}}});
    return std::nullopt;
  }
  if (e.size() == 3 && (word == "passed" || word == "done" || word == "last")) {
    const std::int64_t which = count_in(e[2]);
    if (which < 0 || which >= node::no_edge)
      return unknown();
    const auto about = static_cast<std::uint32_t>(which);
    if (word == "last") {
      auto m = make(what::last, term());
      m->edge = about;
      return std::pair(std::move(m), lane::data);
    }
    hear({{about, 1, word == "passed" ? news::passed : news::done, 0, {}}});
    return std::nullopt;
  }
  if (word == "fresh" && e.size() == 4) {
    const auto workers = e[3].as_list();
    if (edge < 0 || !workers)
      return unknown();
    std::vector<returned_credit> all;
    for (const term& w : *workers)
      if (const auto p = w.as_pid())
        all.push_back({number, 0, news::fresh, 0, *p});
    if (!all.empty())
      all.back().units = 1; // the last of a slab
    hear(std::move(all));
    return std::nullopt;
  }
  if ((e.size() == 5 && (word == "attach" || word == "want"))
      || (e.size() == 6 && word == "join")
      || (e.size() == 4 && (word == "shed" || word == "flushed"))
      || (e.size() == 3 && (word == "ask" || word == "replied")))
    return control(std::move(t));
  if (word == "overload" && e.size() == 4)
    return std::nullopt; // for those who relay
  return unknown();
}

// The last of them has the credit.
std::optional<std::pair<message_ptr, lane>>
member::accept_batch(const std::vector<term>& data, std::uint32_t edge,
                     std::uint32_t units, const node::envelope_ptr& env) {
  message_ptr first;
  for (std::size_t i = data.size(); i-- > 0;) {
    auto m = make(what::data, data[i]);
    m->edge = edge;
    m->env = env;
    m->units = std::exchange(units, 0);
    m->next = first.release();
    first = std::move(m);
  }
  if (!first)
    return std::nullopt;
  return std::pair(std::move(first), lane::data);
}

void member::wire(std::unique_ptr<wiring> w) {
  {
    const std::lock_guard guard(inbox_);
    if (is_cleared())
      return; // killed meanwhile: nobody would let go of it
    new_wiring_ = std::move(w);
  }
  push(std::make_unique<message>(what::control, datum()), lane::control);
}

// ---- Control ----------------------------------------------------------------

void member::handle_request(message& m) {
  if (m.kind == what::down && receiver_ && of_receiver_
      && m.value.as<term>().element(1) == term(*of_receiver_))
    return receiver_->lose(); // it came before its reference was noted
  if (m.kind == what::last)
    return settle_late();
  if (m.kind != what::control)
    return; // an exit or a DOWN that nothing here waits for
  if (m.value.empty()) {
    std::unique_ptr<wiring> w;
    {
      const std::lock_guard guard(inbox_);
      w = std::move(new_wiring_);
    }
    if (w)
      take_wiring(std::move(*w));
    return;
  }
  const term t = m.value.as<term>();
  if (t.is_tagged("$coop", 6))
    return take_joining(t);
  if (t.arity() == 3 && t.is_tagged("$coop", 3)) {
    const term from = t.element(1), request = t.element(2);
    if (request.is_atom("info"))
      home().reply(pid(), from, describe(more_info()));
    else if (request.is_atom("head"))
      home().reply(pid(), from, wiring_.of ? wiring_.of->head : esp::pid());
    else
      home().reply(
          pid(), from,
          term::tuple({atom("error"),
                       term::tuple({atom("unknown_request"), request})}));
  }
}

// A head is wired once more with each body; those who relay to it stay, and so
// do the turns that it gives.
void member::take_wiring(wiring&& w) {
  if (w.in.empty())
    w.in = std::move(wiring_.in);
  if (!w.how)
    w.how = std::move(wiring_.how);
  static_cast<wires&>(wiring_) = std::move(static_cast<wires&>(w));
  if (is_wired_) {
    const std::lock_guard guard(inbox_);
    credit_in_.clear(); // of edges that are no more
  }
  take_late_wiring(w);
  if (wiring_.out.empty()
      && wiring_.of->receiver.what != receiver_spec::kind::none) {
    receiver_ = std::make_unique<receiver>(*this, wiring_.of);
    receiver_->attach();
  }
  for (const message* i = w.left.front(); i != nullptr; i = i->next)
    if (is_plain(*i))
      plain_bytes_.fetch_add(size_of(*i), std::memory_order_relaxed);
  unread(std::move(w.left));
  is_wired_ = true;
  straight_ = wiring_.out.size() == 1 && !late_ ? &wiring_.out.front() : nullptr;
  if (late_)
    for (const term& t : std::exchange(late_->joining, {}))
      take_joining(t);
  if (const auto first = std::move(w.first))
    founded(std::move(*first));
  if (const auto after = std::move(w.after))
    rewired(*after);
}

term member::describe(std::vector<std::pair<term, term>> more) {
  const auto number_of = [](std::uint64_t n) {
    return term::integer(static_cast<std::int64_t>(n));
  };
  std::size_t held = 0;
  for (auto& e : wiring_.in)
    for (const message* i = e.held.front(); i != nullptr; i = i->next)
      ++held;
  std::vector<std::pair<term, term>> all{
      {atom("role"), role()},
      {atom("name"), name_in_template_},
      {atom("queue"), number_of(queued_data() + held)},
      {atom("control"), number_of(queued_control())},
      {atom("in"), number_of(in_)},
      {atom("out"), number_of(out_)},
      {atom("dropped"), number_of(dropped_.load(std::memory_order_relaxed))},
      {atom("dead_lettered"),
       number_of(dead_lettered_.load(std::memory_order_relaxed))},
      {atom("status"), atom(is_suspended() ? "suspended" : "running")},
      {atom("blocked"), atom(can_take_data() ? "false" : "true")}};
  if (receiver_)
    all.emplace_back(atom("receiver"), receiver_->info());
  if (late_ && !late_->made.empty())
    all.emplace_back(atom("started"), number_of(late_->made.size()));
  if (late_ && late_->pool) {
    const auto& p = *late_->pool;
    all.emplace_back(
        atom("workers"),
        term::map({{atom("fresh"), number_of(p.fresh.size())},
                   {atom("busy"), number_of(wiring_.out.front().sent - p.done)},
                   {atom("done"), number_of(p.done)}}));
  }
  for (auto& m : more)
    all.push_back(std::move(m));
  return term::map(all);
}

// ---- Credit -----------------------------------------------------------------

void member::hear_of_credit() {
  std::vector<returned_credit> came;
  bool lost = false;
  {
    const std::lock_guard guard(inbox_);
    came.swap(credit_in_);
    lost = std::exchange(receiver_lost_, false);
    has_credit_in_.store(false, std::memory_order_relaxed);
  }
  using news = returned_credit::word;
  for (const auto& c : came) {
    if (c.what != news::credit && c.what != news::attached) {
      take_late_news(c);
      continue;
    }
    for (auto& e : wiring_.out)
      if (e.own_number == c.edge && c.what == news::credit && !is_router())
        e.take_back(c); // edges inside are made whole
    if (receiver_ && c.edge == 0)
      receiver_->take_credit(c);
  }
  if (lost && receiver_)
    receiver_->lose();
}

// At least one edge with credit, or nothing to wait for.
bool member::looks_for_credit() {
  if (!is_wired_)
    return false;
  take_credit_in();
  if (late_ && (late_->barrier || late_->is_ending))
    return false;
  if (receiver_ && !receiver_->has_credit())
    return false;
  for (const out_edge& e : wiring_.out)
    if (e.has_credit())
      return true;
  return wiring_.out.empty() || say_waiting();
}

// Who waits says so before it looks again, so that a receiver that gives back in
// between kicks.
bool member::say_waiting() {
  for (auto& e : wiring_.out)
    if (e.local)
      e.local->sender_waits.store(true);
  return std::any_of(wiring_.out.begin(), wiring_.out.end(),
                     [](const out_edge& e) { return e.has_credit(); });
}

bool member::have_credit(std::span<out_edge> edges) {
  take_credit_in();
  bool all = is_wired_;
  for (auto& e : edges) {
    if (e.has_credit())
      continue;
    if (e.local)
      e.local->sender_waits.store(true);
    all = all && e.has_credit();
  }
  return all;
}

void member::wait_for_credit(out_edge& e) {
  take_credit_in();
  while (!e.has_credit()) {
    if (e.local)
      e.local->sender_waits.store(true);
    block([&] {
      return e.has_credit() || has_credit_in_.load(std::memory_order_acquire);
    });
    take_credit_in();
  }
}

void member::wait_for_any_credit() {
  while (!member::can_take_data())
    block([&] {
      return std::any_of(wiring_.out.begin(), wiring_.out.end(),
                         [](const out_edge& e) { return e.has_credit(); })
             || has_credit_in_.load(std::memory_order_acquire);
    });
}

void member::wait_for_news() {
  block([&] { return has_credit_in_.load(std::memory_order_acquire); });
  take_credit_in();
}

void member::give_back_owed(in_edge& e) noexcept {
  const std::uint64_t units = std::exchange(e.owed, 0);
  if (e.local) {
    e.local->returned.store(e.local->returned.load(std::memory_order_relaxed)
                            + units);
    if (e.local->sender_waits.load() && e.local->sender_waits.exchange(false))
      e.local->sender->kick();
  } else if (e.from) {
    home().send_message(pid(), *e.from, own::credit(e.sender_number, units));
  }
}

void member::give_back_early(message& m) noexcept {
  if (in_edge* const e = m.edge == node::no_edge ? nullptr : find_in(m.edge)) {
    e->owed += std::exchange(m.units, 0);
    give_back(*e, false);
  }
}

void member::run_ended() noexcept {
  burst_ = 0;
  for (auto& e : wiring_.in)
    if (e.local && e.owed > 0)
      give_back(e, true); // costs nothing, and keeps the sender going
  if (receiver_ && is_suspended())
    take_credit_in(); // what is asked for goes out all the same
  if (receiver_
      && (queued_data() == 0 || is_suspended() || !receiver_->has_credit()))
    receiver_->pause();
}

in_edge* member::find_joined(std::uint32_t n) noexcept {
  const auto joined = late_->joined.find(n);
  return joined != late_->joined.end() ? &joined->second : nullptr;
}

in_edge& member::add_in_edge(in_edge e) {
  wiring_.in.push_back(std::move(e));
  return wiring_.in.back();
}

void member::drop_in_edges_from(const esp::pid& sender) {
  std::erase_if(wiring_.in, [&](const in_edge& e) { return e.from == sender; });
}

// ---- Data -------------------------------------------------------------------

inline void member::take_datum(message_ptr m) {
  ++in_;
  if (is_debugged())
    debug_in(m->value.to_term());
  if (keeps_lane())
    return take_kept_datum(std::move(m));
  if (m->env)
    take_envelope(*m);
  broke_off_ = !take(m->value);
  if (env())
    let_go_of_envelope();
}

void member::handle_data(message_ptr m) {
  if (m->edge == node::no_edge) {
    leaves_queue(*m);
  } else if (in_edge* const e = find_in(m->edge)) {
    in_edge* const barred
        = e->behind == node::no_edge ? e : find_in(e->behind);
    if (barred != nullptr && barred->is_held) {
      barred->held.push_back(std::move(m));
      return;
    }
    if (m->kind != what::data) [[unlikely]] {
      if (m->kind == what::last)
        return take_last(*e);
      if (m->kind == what::barrier)
        return take_barrier(*e, m->value.as<term>());
    }
    e->owed += m->units;
    give_back(*e, false);
    if (is_late_ && late_->origin)
      late_->origin->is_used = true;
  }
  if (m->kind == what::data) [[likely]]
    return take_datum(std::move(m));
  if (m->kind == what::flush) {
    barrier_enters(m->value.as<term>());
    pass_barrier(m->value.as<term>());
  } // else from nobody that we know
}

// The task works at a datum of its own, so that this one is there still if it
// does not come to the end.
void member::take_kept_datum(message_ptr m) {
  if (m->env)
    take_envelope(*m);
  hand_ = std::move(m);
  datum d = hand_->value.share();
  if (!take(d))
    return;
  hand_.reset();
  if (env())
    let_go_of_envelope();
}

// Edges that the barrier has come on wait for the others; then it goes on, and
// what waited is taken up, in the order of each edge.
void member::take_barrier(in_edge& e, const term& caller) {
  if (e.behind != node::no_edge)
    return; // a stranger's
  e.is_held = true;
  if (++held_ == wiring_.in.size())
    pass_barrier(caller);
}

void member::release_held() {
  if (is_given_up() || held_ == 0)
    return;
  held_ = 0;
  node::message_list all;
  for (auto& i : wiring_.in) {
    i.is_held = false;
    all.append(std::move(i.held));
  }
  unread(std::move(all));
}

void member::pass_barrier(const term& caller) {
  try {
    if (!caller.element(1).is_tagged("hold", 2)) // else it ends nothing
      flush_task();
  } catch (const exit_signal&) { // noted already; run() ends it
    return;
  }
  if (late_ && await_late(&caller))
    late_->barrier = caller;
  else
    pass_on(caller);
}

void member::pass_on(const term& caller) {
  try {
    if (is_router())
      for (const auto& p : late_->pool->beyond)
        home().send_message(pid(), p.to, own::barrier(p.edge, caller));
    for (auto& e : wiring_.out) {
      if (is_router() || is_late_)
        break; // those behind have it from who made this one
      if (e.local) {
        if (is_traced() || e.local->receiver->is_traced())
          tell_hop(*e.local->receiver, own::barrier(e.number, caller));
        auto m = make(what::barrier, caller);
        m->edge = e.number;
        e.local->receiver->push(std::move(m), lane::data);
      } else {
        home().send_message(pid(), e.to, own::barrier(e.number, caller));
      }
    }
    if (receiver_)
      receiver_->flush();
    release_held();
    if (is_late_) {
      if (late_ && late_->origin)
        home().send_message(pid(), late_->origin->maker,
                            own::passed(late_->origin->edge));
      return;
    }
    if (is_router() ? !late_->pool->beyond.empty() : !wiring_.out.empty())
      return;
    const term mark = own::flushed(caller.element(1), wiring_.of->last_tier);
    if (is_router()) // by the way that its workers' results go
      home().send_message(pid(), late_->pool->supplier,
                          own::mark(caller.element(0), mark));
    else if (const auto to = caller.element(0).as_pid())
      home().send_message(pid(), *to, mark);
    if (keeps_lane())
      home().send_message(pid(), wiring_.of->head, mark);
  } catch (const exit_signal&) { // noted already; run() ends it
  }
}

inline message_ptr member::on_edge(const out_edge& e, datum&& d) {
  message_ptr m(new message(what::data, std::move(d)));
  m->edge = e.number;
  m->units = 1;
  if (env()) [[unlikely]]
    m->env = envelope_for(*m, e.to);
  return m;
}

void member::send_on(out_edge& e, datum&& d) {
  if (!e.has_credit()) [[unlikely]]
    wait_for_credit(e);
  if (e.here == nullptr || is_debugged() || !is_ordinary()) [[unlikely]]
    return send_otherwise(e, std::move(d));
  ++e.sent;
  message_ptr m = on_edge(e, std::move(d));
  if (!e.here->push_from_process(m)) [[unlikely]]
    push_and_tell(*e.here, std::move(m));
}

void member::emit(datum&& d) {
  if (!wiring_.out.empty() && !wiring_.how)
    return emit_on(wiring_.out, std::move(d));
  check_exit();
  ++out_;
  if (wiring_.how)
    return emit_chosen(std::move(d));
  deliver_result(std::move(d));
}

void member::emit_on(std::span<out_edge> edges, datum&& d) {
  check_exit();
  ++out_;
  out_edge* const last = &edges.back();
  for (out_edge* e = edges.data(); e != last; ++e)
    send_on(*e, d.share());
  send_on(*last, std::move(d));
  burst_ += edges.size();
  if (burst_ >= long_burst)
    give_way();
}

// What a task has sent in one go would leave the cache before those behind it see
// it: they come first, if they are for this worker.
void member::give_way() {
  struct turn final : sched::runnable {
    explicit turn(node::process_ptr of) : waiting(std::move(of)) {}
    void run() noexcept override {
      has_come.store(true, std::memory_order_release);
      waiting->kick();
    }
    const node::process_ptr waiting;
    std::atomic<bool> has_come{false};
  };
  burst_ = 0;
  if (!switch_ || !sched::this_worker::has_room_to_wait())
    return; // a head does not wait
  const boost::intrusive_ptr<turn> mine(new turn(this));
  home().workers().schedule(mine);
  try {
    block([&] { return mine->has_come.load(std::memory_order_acquire); });
  } catch (const std::system_error&) { // no room for one more fiber that waits
  }
}

void member::emit_chosen(datum&& d) {
  if (wiring_.how->takes_any())
    wait_for_any_credit();
  auto& out = wiring_.out;
  const auto chosen = wiring_.how->choose(d, out);
  if (chosen.empty())
    return;
  for (const std::uint32_t i : chosen.first(chosen.size() - 1))
    send_on(out[i], d.share());
  send_on(out[chosen.back()], std::move(d));
}

bool member::emit_to(std::string_view target, datum&& d) {
  check_exit();
  for (auto& e : wiring_.out)
    if (e.target == target) {
      ++out_;
      send_on(e, std::move(d));
      return true;
    }
  return false;
}

void member::send_otherwise(out_edge& e, datum&& d) {
  if (e.here == nullptr && is_router())
    return send_to_worker(e, std::move(d));
  const engine_call call(*this);
  if (!call.is_heard())
    check_exit();
  ++e.sent;
  if (is_debugged())
    debug_out(d.to_term(), e.to);
  if (e.here == nullptr)
    return send(e.to, own::data(e.number, 1, env(), d.to_term()));
  push_and_tell(*e.here, on_edge(e, std::move(d)));
}

void member::push_and_tell(process& to, message_ptr m) {
  if (is_traced() || to.is_traced())
    tell_hop(to, shown(m->value));
  to.push(std::move(m), lane::data);
}

// Of what goes along with a datum to a process of this home.
node::envelope_ptr member::envelope_for(const message& m, const esp::pid& to) {
  if (!has_token())
    return env();
  return node::envelope_of(env()->call, seq_send(to, as_sent(m)));
}

term member::as_sent(const message& m) const {
  if (m.edge == node::no_edge)
    return special_process::as_sent(m);
  return own::data(m.edge, m.units, m.env ? m.env : env(), m.value.to_term(),
                   m.urgent);
}

// Between two processes here it is the datum itself that is sent.
void member::tell_hop(process& to, const term& message) {
  auto& traces = *home().traces();
  if (is_traced())
    traces.sent(*this, message, to.pid(), !to.has_ended());
  if (to.is_traced() && !to.has_ended())
    traces.received(to, message, pid());
}

void member::deliver_result(datum&& d) {
  if (env() && env()->call) {
    const engine_call call(*this);
    if (!call.is_heard())
      check_exit();
    home().reply(pid(), *env()->call, d.to_term());
    if (keeps_lane())
      home().send_message(pid(), wiring_.of->head, own::replied(*env()->call));
  } else if (receiver_)
    receiver_->deliver(std::move(d));
}

// Waits while more than its high-water mark is on the way to that node.
void member::wait_for_connection(atom at_node) {
  const auto p =
      at_node == home().name() ? nullptr : home().connections().find(at_node);
  if (!p || !p->is_congested())
    return;
  const node::process_ptr me(this);
  const auto drained = std::make_shared<std::atomic<bool>>(false);
  p->on_drain([me, drained] {
    drained->store(true);
    me->kick();
  });
  block([&] { return drained->load(); });
}

void member::watch_receiver(const dist::pid_or_name& who, atom at_node) {
  const ref watch = monitor(who, at_node);
  const std::lock_guard guard(inbox_);
  of_receiver_ = std::make_unique<ref>(watch);
}

bool member::intercept_down(const ref& r) {
  {
    const std::lock_guard guard(inbox_);
    if (!of_receiver_ || *of_receiver_ != r)
      return false;
    receiver_lost_ = true;
    has_credit_in_.store(true, std::memory_order_release);
  }
  kick();
  return true;
}

// ---- The end ----------------------------------------------------------------

void member::fired_with(const term& reason) {
  if (!switch_)
    return;
  if (is_late_)
    switch_->late_ended(number(), reason, is_orderly_);
  else
    switch_->member_ended(reason);
}

void member::rest() noexcept {
  switch_->member_rests(false);
}

void member::abandon() noexcept {
  if (!give_up())
    return;
  if (const auto reason = exit_reason())
    bury(*reason);
  switch_->member_rests(true);
}

// What was being worked at goes where dead letters go, and so do results that
// cannot go anywhere else.
void member::bury(const term& reason) {
  const auto one = [&](const term& t) {
    switch_->lost_datum(
        limits_.beyond->send(pid(), name_in_template_, t, reason));
  };
  const auto m = std::move(hand_);
  if (receiver_)
    for (const term& r : receiver_->left_behind(m != nullptr))
      one(r);
  if (m)
    one(m->value.to_term());
}

void member::ended(const term& reason) {
  if (!is_given_up()) {
    if (receiver_)
      receiver_->close();
    if (keeps_lane())
      bury(reason);
  }
  if (env())
    let_go_of_envelope();
  // Marks of a flush are no data.
  take_over_arrivals();
  while (take_out([](const message& m) { return m.kind != what::data; })) {
  }
  std::uint64_t left = broke_off_ ? 1 : 0;
  for (auto& e : wiring_.in)
    left += count_data(e.held);
  if (receiver_)
    left += receiver_->left_behind(broke_off_).size();
  {
    const std::lock_guard guard(inbox_);
    left_ = left;
  }
  if (is_orderly_)
    say_good_bye();
  late_.reset();
  drop_wiring(false);
}

std::uint64_t member::inside() const {
  const std::lock_guard guard(inbox_);
  return queued_data() + left_
         + (new_wiring_ ? count_data(new_wiring_->left) : 0);
}

// The links of an edge hold both its processes; each lets go of its own, once
// its fiber and, if its lane is kept, whoever takes that are done with them.
void member::drop_wiring(bool from_outside) {
  wires last;
  std::unique_ptr<wiring> unseen;
  const std::lock_guard guard(inbox_);
  (from_outside ? is_let_go_ : is_over_) = true;
  if (is_cleared()) {
    std::swap(last, wiring_);
    straight_ = nullptr;
    unseen = std::move(new_wiring_);
  }
}

void member::sent(edge_counts& into) {
  const std::lock_guard guard(inbox_);
  for (const auto& e : (new_wiring_ ? *new_wiring_ : wiring_).out)
    if (!e.local)
      into[e.number] = e.sent;
}

std::uint64_t member::delivered() const noexcept {
  return receiver_ ? receiver_->delivered() : 0;
}

node::message_list member::leave_behind() {
  node::message_list all;
  {
    const std::lock_guard guard(inbox_);
    if (new_wiring_) // it ended before it looked
      all = std::move(new_wiring_->left);
    for (auto& e : wiring_.in)
      all.append(std::move(e.held));
  }
  all.append(take_lane());
  while (all.extract([](message& m) { return m.kind != what::data; })) {
  }
  drop_wiring(true);
  return all;
}

void member::let_go() {
  drop_lane();
  drop_wiring(true);
}

} // namespace esp::coop
