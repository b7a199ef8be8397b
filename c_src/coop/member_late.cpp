// What a member has to do with nodes made while the co-op runs: late.hpp.

#include "esp/process.hpp"

#include "coop/kill_switch.hpp"
#include "coop/member.hpp"
#include "coop/own_messages.hpp"
#include "coop/traced_task.hpp"

#include <algorithm>
#include <cassert>
#include <limits>

namespace esp::coop {

using node::lane;
using node::message;
using node::what;

namespace {

// Nobody has so many; but who knows an edge's number could pretend to.
constexpr std::size_t most_joined = 1u << 20;

node::message_ptr last_on(std::uint32_t edge) {
  auto m = std::make_unique<message>(what::last, datum());
  m->edge = edge;
  return m;
}

void count_workers(out_edge& e, const worker_pool& p) {
  e.window = std::min(p.supplied, p.done + p.most);
}

} // namespace

late_part& member::late() {
  if (!late_) {
    late_ = std::make_unique<late_part>();
    straight_ = nullptr;
  }
  return *late_;
}

// ---- Edges -----------------------------------------------------------------

void member::take_late_wiring(wiring& w) {
  if (w.pool) {
    auto& p = late().pool.emplace(std::move(*w.pool));
    p.supplied = p.fresh.size();
    count_workers(wiring_.out.front(), p);
    order_workers();
  }
  if (!w.origin)
    return;
  late().origin = *w.origin;
  for (const auto& e : wiring_.out)
    home().send_message(pid(), e.to,
                        own::join(pid(), e.number, e.behind, e.window));
}

// {'$coop', join, Pid, Edge, Behind, Window}
void member::take_joining(const term& request) {
  const auto e = request.elements();
  const auto number = [&](std::size_t i) {
    const auto n = e[i].as_integer().value_or(-1);
    return n < 0 || n >= node::no_edge ? node::no_edge
                                       : static_cast<std::uint32_t>(n);
  };
  const auto who = e[2].as_pid();
  if (!is_wired_ && late().joining.size() < most_joined) {
    late_->joining.push_back(request);
    return;
  }
  const in_edge* const behind = find_in(number(4));
  if (!who || number(3) == node::no_edge || find_in(number(3)) != nullptr
      || behind == nullptr || behind->behind != node::no_edge
      || late().joined.size() >= most_joined)
    return not_understood(request);
  in_edge in;
  in.number = in.sender_number = number(3);
  in.window = number(5);
  in.from = *who;
  in.behind = number(4);
  late().joined.emplace(in.number, std::move(in));
}

void member::take_last(const in_edge& e) {
  if (e.behind != node::no_edge) {
    late_->joined.erase(e.number);
    return;
  }
  if (!late_ || !late_->origin)
    return; // a stranger's
  flush_task();
  late_->origin->is_used = true;
  end_late();
}

void member::end_late() {
  static const atom normal("normal"), unused("unused");
  if (!late_ || !late_->origin || !late_->origin->is_used)
    return finish(term::tuple({unused, normal}));
  if (receiver_)
    receiver_->flush();
  late_->is_ending = await_late(nullptr);
  if (!late_->is_ending)
    finish_late();
}

void member::finish_late() {
  is_orderly_ = true;
  finish(atom("normal"));
}

// ---- As their maker --------------------------------------------------------

void member::take_late_news(const returned_credit& c) {
  using news = returned_credit::word;
  if (!late_)
    return;
  auto& p = late_->pool;
  if (p && wiring_.out.front().number == c.edge) {
    auto& e = wiring_.out.front();
    if (c.what == news::fresh) {
      p->fresh.push_back(c.worker);
      ++p->supplied;
      p->is_ordered = p->is_ordered && c.units == 0;
    } else if (c.what == news::done) {
      p->done = std::min(p->done + 1, e.sent);
    }
    count_workers(e, *p);
    order_workers();
  } else if (const auto it = late_->made.find(c.edge);
             it != late_->made.end() && c.what != news::fresh) {
    const auto n = it->second;
    if (std::exchange(n->is_awaited, false))
      --late_->awaited;
    if (c.what == news::done) {
      // What it has not taken it never will.
      dropped_.fetch_add(n->edge.outstanding(), std::memory_order_relaxed);
      n->is_gone = true;
      n->edge.window = std::numeric_limits<std::uint64_t>::max();
      late_->made_by_pid.erase(n->edge.to);
      late_->made.erase(it);
    }
  }
  // Settled by a message, where a task's end and its errors have their place.
  if ((late_->barrier || late_->is_ending) && late_->is_through(wiring_.out))
    push(last_on(node::no_edge), lane::control);
}

// Tells late nodes of a barrier or (null) that there is nothing more to come.
// True: they have yet to answer.
bool member::await_late(const term* caller) {
  take_credit_in();
  for (const auto& [number, n] : late_->made) {
    if (!n->is_stopping) {
      auto m = last_on(number);
      if (caller != nullptr) {
        m->kind = what::barrier;
        m->value = datum::of(term(*caller));
      }
      n->edge.local->receiver->push(std::move(m), lane::data);
    }
    if (!std::exchange(n->is_awaited, true))
      ++late_->awaited;
  }
  return !late_->is_through(wiring_.out);
}

void member::settle_late() {
  take_credit_in();
  if (!late_ || !late_->is_through(wiring_.out))
    return;
  if (late_->barrier)
    pass_on(*std::exchange(late_->barrier, std::nullopt));
  else if (late_->is_ending)
    finish_late();
}

// Null: none that it has started, or no longer.
std::shared_ptr<made_node> member::made(const esp::pid& node) const {
  if (!late_)
    return nullptr;
  const auto it = late_->made_by_pid.find(node);
  return it == late_->made_by_pid.end() ? nullptr : late_->made.at(it->second);
}

void member::emit_to(const esp::pid& to, datum&& d) {
  static const atom noproc("noproc");
  check_exit();
  const auto n = made(to);
  if (n && !n->is_stopping && !n->edge.has_credit())
    wait_for_credit(n->edge);
  if (!n || n->is_stopping || n->is_gone)
    return lose(d.to_term(), noproc, env());
  ++out_;
  send_on(n->edge, std::move(d));
}

void member::stop_late(const esp::pid& node) {
  const auto n = made(node);
  if (n && !std::exchange(n->is_stopping, true))
    n->edge.local->receiver->push(last_on(n->edge.number), lane::data);
}

void member::add_late(const member_ptr& node) {
  const std::uint32_t number = switch_->next_edge(late_kind::started);
  auto w = std::make_unique<wiring>();
  auto n = std::make_shared<made_node>();
  n->edge.number = n->edge.own_number = number;
  n->edge.window = window();
  n->edge.target = node->name_in_template();
  n->edge.to = node->pid();
  n->edge.here = node;
  auto& link = n->edge.local = new local_link;
  link->sender = this;
  link->receiver = node;
  in_edge in;
  in.number = in.sender_number = number;
  in.window = window();
  in.local = link;
  w->in.push_back(std::move(in));
  for (const auto& o : wiring_.out) {
    out_edge e;
    e.number = e.own_number = switch_->next_edge(late_kind::started);
    e.behind = o.behind == node::no_edge ? o.number : o.behind;
    e.window = window();
    e.target = o.target;
    e.to = o.to;
    e.here = o.here;
    w->out.push_back(std::move(e));
  }
  w->origin = late_origin{pid(), number, true};
  w->of = wiring_.of;
  late().made_by_pid.emplace(n->edge.to, number);
  late().made.emplace(number, std::move(n));
  node->wire(std::move(w));
}

// ---- Workers ---------------------------------------------------------------

// The one next in turn, which is fed nothing else.
void member::send_to_worker(out_edge& e, datum&& d) {
  check_exit();
  assert(!late_->pool->fresh.empty() && "credit is by workers");
  const esp::pid to = late_->pool->fresh.front();
  late_->pool->fresh.pop_front();
  ++e.sent;
  if (is_debugged())
    debug_out(d.to_term(), term(to));
  if (const auto here = home().find(to)) {
    auto m = std::make_unique<message>(what::data, std::move(d));
    m->edge = e.number;
    if (env())
      m->env = envelope_for(*m, to);
    if (is_traced() || here->is_traced())
      tell_hop(*here, shown(m->value));
    here->push(std::move(m), lane::data);
    here->push(last_on(e.number), lane::data);
  } else {
    send(to, own::data(e.number, 0, env(), d.to_term()));
    home().send_message(pid(), to, own::last(e.number));
  }
  order_workers();
}

void member::order_workers() {
  auto& p = *late_->pool;
  if (p.is_ordered || p.fresh.size() > p.threshold)
    return;
  p.is_ordered = true;
  home().send_message(pid(), p.supplier,
                      own::more(pid(), wiring_.out.front().number));
}

// ---- As one of them --------------------------------------------------------

void member::withdraw() {
  is_orderly_ = true;
  end(atom("normal"));
}

// Behind all that it has sent.
void member::say_good_bye() {
  if (!late_ || !late_->origin)
    return;
  for (auto& e : wiring_.in)
    give_back(e, true);
  for (const auto& e : wiring_.out) {
    if (e.here)
      e.here->push(last_on(e.number), lane::data);
    else
      home().send_message(pid(), e.to, own::last(e.number));
  }
  home().send_message(pid(), late_->origin->maker,
                      own::done(late_->origin->edge));
}

} // namespace esp::coop
