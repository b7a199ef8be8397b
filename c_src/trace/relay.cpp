#include "trace/relay.hpp"

#include "esp/process.hpp"

#include "node/remote_call.hpp"

#include <chrono>
#include <mutex>

namespace esp::trace {

namespace {

using namespace std::chrono_literals;
using node::process;

constexpr std::size_t window = 1'000;      // events between looks
constexpr std::int64_t most_queued = 10'000; // at the receiver

// The events of a process of ours wait in its own queue.
class process_tracer final : public tracer {
public:
  process_tracer(node::node& home, const pid& of)
      : tracer(of, {}, {}), home_(home), pid_(of) {}

  bool put(term event) override {
    const std::lock_guard guard(mutex_);
    const auto p = home_.find(pid_);
    if (!p || p->has_ended() || !is_open())
      return false;
    if (p->queued_data() >= most_queued) {
      ++dropped_;
      return true;
    }
    if (dropped_ > 0)
      p->deliver(dropped(std::exchange(dropped_, 0)), std::nullopt);
    p->deliver(std::move(event), std::nullopt);
    return true;
  }

private:
  node::node& home_;
  const pid pid_;
  std::mutex mutex_;
  std::uint64_t dropped_ = 0;
};

bool is_end(const term& m) {
  return m.is_tagged("EXIT", 3) || m.is_tagged("DOWN", 5);
}

// False: it is over. Whatever else has come is for `rest`.
template <class F>
bool hear(F&& rest) {
  while (const auto m =
             esp::receive([](const term&) { return true; }, 0ms)) {
    if (is_end(*m))
      return false;
    rest(*m);
  }
  return true;
}

void wait_for_events(tracer& from) {
  process& me = *process::current();
  me.block([&] { return from.has_events() || me.queued_data() > 0; },
           process::clock::time_point::max(), true);
}

// Nothing, if there is nobody any more.
std::optional<bool> has_room(const pid& of) {
  static const atom message_queue_len("message_queue_len");
  const auto n = node::remote_call(of.node, "erlang", "process_info",
                                   term::list({of, message_queue_len}), 5'000ms);
  if (!n)
    return n.error().code != errc::timeout; // whoever it is, it does not say
  if (!n->value.is_tagged("message_queue_len", 2))
    return std::nullopt;
  return n->value.element(1).as_integer().value_or(0) < most_queued;
}

} // namespace

tracer_ptr make_tracer(process& taker) {
  return new tracer(taker.pid(), {},
                    [p = node::process_ptr(&taker)] { p->kick(); });
}

tracer_ptr make_tracer(node::node& home, const pid& of) {
  return new process_tracer(home, of);
}

void relay_to_process(tracer& from, const pid& to) {
  process& me = *process::current();
  for (std::size_t sent = 0;;) {
    if (!hear([&](const term& m) { esp::send(to, m); }))
      return;
    if (!from.has_events()) {
      wait_for_events(from);
      continue;
    }
    if (sent >= window && !from.is_hurried()) {
      const auto room = has_room(to);
      if (!room)
        return;
      if (!*room) {
        me.block([&] { return from.is_hurried() || me.queued_data() > 0; },
                 process::clock::now() + 100ms, true);
        continue;
      }
      sent = 0;
    }
    const auto events = from.take(window);
    for (const term& e : events)
      esp::send(to, e);
    from.passed_on(events.size());
    sent += events.size();
  }
}

void relay_to_fun(tracer& from, atom at, const term& fun, term state) {
  constexpr std::size_t at_once = 100;
  while (hear([](const term&) {})) {
    if (!from.has_events()) {
      wait_for_events(from);
      continue;
    }
    const auto events = from.take(at_once);
    auto done = node::remote_call(at, "lists", "foldl",
                                  term::list({fun, state, term::list(events)}),
                                  infinity);
    from.passed_on(events.size());
    if (!done)
      return;
    if (done->how != "return")
      esp::exit(term::tuple({atom("trace_handler_crashed"), done->value}));
    state = std::move(done->value);
  }
}

} // namespace esp::trace
