// Signals: links, monitors and exits, as they come and as the process makes
// them. Where they cross each other: "Signals" in the Erlang reference manual,
// and the link protocol of the distribution (UNLINK_ID).

#include "node/node.hpp"
#include "node/process.hpp"
#include "node/tracing.hpp"

#include <algorithm>
#include <mutex>

namespace esp::node {

namespace {

const atom getting_unlinked("getting_unlinked");

term exit_message(const esp::pid& from, const term& reason) {
  static const atom tag("EXIT");
  return term::tuple({tag, from, reason});
}

} // namespace

// ---- As they come --------------------------------------------------------

bool process::receive_link(const esp::pid& from, bool by_itself) {
  static const atom getting_linked("getting_linked");
  {
    const auto x = more();
    if (flags_.load(std::memory_order_relaxed) & dead)
      return false;
    x->links.add({from, 0});
  }
  if (is_traced()) {
    if (by_itself)
      home_.traces()->linked(*this, from);
    else
      home_.traces()->event(*this, getting_linked, from);
  }
  return true;
}

void process::receive_unlink(const esp::pid& from, std::uint64_t) {
  receive_unlink_ack(from, 0);
  if (is_traced())
    home_.traces()->event(*this, getting_unlinked, from);
}

void process::receive_unlink_ack(const esp::pid& from, std::uint64_t id) {
  std::unique_ptr<extra> last;
  const std::lock_guard guard(lock_);
  if (extra_ && extra_->drop_link(from, id))
    last = shed();
}

bool process::receive_monitor(const esp::pid& watcher,
                              const dist::pid_or_name& given, const ref& r) {
  const auto x = more();
  if (flags_.load(std::memory_order_relaxed) & dead)
    return false;
  x->watchers.add({watcher, given, r});
  return true;
}

void process::receive_demonitor(const esp::pid& watcher, const ref& r) {
  std::unique_ptr<extra> last;
  const std::lock_guard guard(lock_);
  if (!extra_)
    return;
  if (auto* const w = extra_->watchers.find({watcher, r})) {
    extra_->watchers.erase(w);
    last = shed();
  }
}

void process::receive_down(const dist::monitor_exit& down) {
  static const atom tag("DOWN"), type("process");
  const auto message_of = [&](const term& object) {
    return term::tuple({tag, down.ref, type, object, down.reason});
  };
  if ((flags_.load(std::memory_order_acquire) & expects) != 0) {
    const term object =
        std::visit([](const auto& v) { return term(v); }, down.from);
    if (receive_answer(down.ref, std::make_unique<message>(
                                     what::down,
                                     datum::of(message_of(object))))) {
      if (is_traced())
        home_.traces()->received(*this, message_of(object), std::nullopt);
      const std::lock_guard guard(lock_);
      if (extra_) // who heard the answer may have gone on since
        if (auto* const w = extra_->watches.find(down.ref))
          extra_->watches.erase(w);
      return;
    }
  }
  dist::pid_or_name target;
  atom at;
  {
    const std::lock_guard guard(lock_);
    if (!extra_)
      return;
    auto* const w = extra_->watches.find(down.ref);
    if (w == nullptr)
      return; // demonitored meanwhile
    target = w->target;
    at = w->at_node;
    extra_->watches.erase(w);
  }
  if (intercept_down(down.ref))
    return;
  const term object = std::holds_alternative<esp::pid>(target)
                          ? term(std::get<esp::pid>(target))
                          : term::tuple({std::get<atom>(target), at});
  if (is_traced())
    home_.traces()->received(*this, message_of(object), std::nullopt);
  push(std::make_unique<message>(what::down, datum::of(message_of(object))),
       down_lane());
}

bool process::receive_answer(const ref& r, message_ptr answer) {
  const std::lock_guard guard(lock_);
  if (!extra_)
    return false;
  auto& expected = extra_->expected;
  const auto it = std::find_if(expected.begin(), expected.end(),
                               [&](const expectation& e) { return e.id == r; });
  if (it == expected.end())
    return false;
  it->answers.push_back(std::move(answer));
  wake_if(true);
  return true;
}

void process::receive_exit(const esp::pid& from, const term& reason,
                           bool by_link, bool has_priority) {
  bool trapped = false;
  {
    const std::lock_guard guard(lock_);
    const auto f = flags_.load(std::memory_order_relaxed);
    if (f & dead)
      return;
    if (by_link) {
      if (!extra_ || !extra_->drop_link(from, 0))
        return; // not linked, or no longer
    }
    trapped = (f & traps) != 0;
  }
  if (by_link && is_traced())
    home_.traces()->event(*this, getting_unlinked, from);
  const bool kill = !by_link && reason.is_atom("kill");
  if (kill) {
    static const atom killed_reason("killed");
    note_exit(killed_reason, true);
    return;
  }
  if (intercept_exit(from, reason, by_link))
    return;
  if (trapped) {
    if (is_traced())
      home_.traces()->received(*this, exit_message(from, reason), from);
    push(std::make_unique<message>(what::exit,
                                   datum::of(exit_message(from, reason))),
         has_priority && down_lane() == lane::data ? lane::urgent
                                                   : down_lane());
  } else if (!reason.is_atom("normal") || (!by_link && from == pid())) {
    note_exit(reason, false);
  }
}

void process::receive_leader(const esp::pid& leader) {
  more()->leader = leader;
  leader_changed(leader);
}

void process::receive_node_down(atom node_name) {
  std::vector<esp::pid> broken;
  std::vector<watch_entry> lost;
  {
    const std::lock_guard guard(lock_);
    if (!extra_)
      return;
    for (const auto& l : extra_->links)
      if (l.other.node == node_name && l.unlinking == 0)
        broken.push_back(l.other);
    // An unlink that was under way is done: nobody is left to answer it.
    extra_->links.erase_if([&](const link_entry& l) {
      return l.other.node == node_name && l.unlinking != 0;
    });
    extra_->watchers.erase_if(
        [&](const watcher_entry& w) { return w.watcher.node == node_name; });
    for (const auto& w : extra_->watches)
      if (w.at_node == node_name)
        lost.push_back(w);
    for (const auto& e : extra_->expected)
      if (e.at_node == node_name)
        lost.push_back({pid(), node_name, e.id});
  }
  static const atom noconnection("noconnection");
  for (const auto& other : broken)
    receive_exit(other, noconnection, true);
  for (const auto& w : lost)
    receive_down({w.target, pid(), w.id, noconnection});
}

void process::end(const term& reason) {
  if (reason.is_atom("kill")) {
    static const atom killed_reason("killed");
    note_exit(killed_reason, true);
  } else {
    note_exit(reason, false);
  }
}

void process::finish(const term& reason) {
  note_exit(reason, false);
}

void process::note_exit(const term& reason, bool kill) {
  bool fire_now = false, run_it = false, must_let_go = false;
  {
    const auto x = more();
    const auto f = flags_.load(std::memory_order_relaxed);
    if (f & dead)
      return;
    if (!(f & exiting)) {
      x->exit_reason = reason;
      set(exiting);
    } else if (!kill) {
      return; // the first reason stays
    } else {
      x->exit_reason = reason;
    }
    // Killed in the middle of a task, its links are not kept waiting.
    fire_now = kill && (f & running) != 0;
    must_let_go = (f & running) != 0 && current() != this;
    wake_if(true);
    run_it = enqueue();
  }
  if (must_let_go)
    home_.told_to_end(*this);
  if (fire_now)
    fire(reason);
  if (run_it)
    schedule();
}

// Links before monitors: `supervisor` takes the DOWN, unlinks and flushes the
// 'EXIT'; the other order would lose it the real reason.
void process::fire(const term& reason) {
  bonds<link_entry> links;
  bonds<watcher_entry, watcher_key::hash> watchers;
  bonds<watch_entry> watches;
  atom name;
  bool is_kept = false;
  {
    const std::lock_guard guard(lock_);
    const auto f = set(dead);
    if (f & dead)
      return;
    is_kept = (f & (keeps | lane_taken)) == keeps;
    links = std::move(extra_->links);
    watchers = std::move(extra_->watchers);
    watches = std::move(extra_->watches);
    name = extra_->name;
  }
  if (is_traced())
    home_.traces()->ended(*this, reason, name);
  if (is_kept)
    home_.unregister_name(name); // found by its pid until take_lane()
  else
    home_.forget(*this, name);
  const esp::pid me = pid();
  for (const auto& l : links)
    if (l.unlinking == 0)
      home_.send(dist::exit{me, l.other, reason, std::nullopt});
  for (const auto& w : watchers)
    home_.send(dist::monitor_exit{std::holds_alternative<esp::pid>(w.given)
                                      ? dist::pid_or_name(me)
                                      : w.given,
                                  w.watcher, w.id, reason});
  for (const auto& w : watches)
    home_.send_demonitor(me, w.target, w.at_node, w.id);
  // Last: what it leads to must not be heard of before this.
  fired_with(reason);
  home_.flush();
}

// ---- As it makes them ----------------------------------------------------

void process::link(const esp::pid& to) {
  if (is_traced())
    home_.traces()->linked(*this, to);
  {
    const auto x = more();
    auto* const known = x->links.find(to);
    if (known != nullptr && known->unlinking == 0)
      return;
    if (known != nullptr)
      known->unlinking = 0;
    else
      x->links.add({to, 0});
  }
  home_.send(dist::link{pid(), to});
}

void process::unlink(const esp::pid& from) {
  const std::uint64_t id = home_.next_unlink_id();
  {
    const std::lock_guard guard(lock_);
    auto* const l = extra_ ? extra_->links.find(from) : nullptr;
    if (l == nullptr || l->unlinking != 0)
      return;
    l->unlinking = id;
  }
  static const atom unlink_("unlink");
  if (is_traced())
    home_.traces()->event(*this, unlink_, from);
  home_.send(dist::unlink{id, pid(), from});
}

ref process::monitor(const dist::pid_or_name& to, atom at_node) {
  const ref r = home_.make_ref();
  more()->watches.add({to, at_node, r});
  home_.send_monitor(pid(), to, at_node, r);
  return r;
}

void process::demonitor(const ref& r) {
  std::optional<watch_entry> found;
  const engine_call call(*this);
  if (!call.is_heard())
    return;
  {
    const std::lock_guard guard(lock_);
    if (!extra_)
      return;
    if (auto* const w = extra_->watches.find(r)) {
      found = *w;
      extra_->watches.erase(w);
    }
    (void)take_arrivals();
  }
  if (found) {
    home_.send_demonitor(pid(), found->target, found->at_node, r);
    return;
  }
  // flush: it has fired, and the message is among the data
  if (mine_.extract([&](message& m) {
        return m.kind == what::down && m.value.holds<term>()
               && m.value.as<term>().element(1).as_ref() == r;
      }))
    count_taken(1);
}

void process::expect(const ref& r, atom at_node) {
  const auto x = more();
  x->expected.push_back({r, at_node, {}});
  set(expects);
}

std::optional<term> process::await(const ref& r, clock::time_point until) {
  message_list* answers = nullptr; // under lock_, as ready() is asked
  const auto ready = [&] {
    for (auto& e : extra_->expected)
      if (e.id == r)
        answers = &e.answers;
    return answers != nullptr && !answers->empty();
  };
  if (!block(ready, until))
    return std::nullopt;
  message_ptr first;
  {
    const std::lock_guard guard(lock_);
    (void)ready(); // it may have moved meanwhile
    first = answers->pop_front();
  }
  if (first->kind == what::data)
    take_token(*first);
  return first->value.take_as<term>();
}

void process::forget(const ref& r) noexcept {
  const std::lock_guard guard(lock_);
  auto& expected = extra_->expected;
  std::erase_if(expected, [&](const expectation& e) { return e.id == r; });
  if (expected.empty())
    clear(expects);
}

} // namespace esp::node
