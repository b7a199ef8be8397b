#include "node/seq_trace.hpp"

#include "node/node.hpp"

#include <algorithm>
#include <chrono>
#include <mutex>

namespace esp::node {

namespace {

// The largest small integer of a 64-bit BEAM, which wants no other here.
constexpr std::int64_t most = (std::int64_t{1} << 59) - 1;
constexpr std::int64_t all_flags = 63;

std::optional<std::int64_t> small(const term& t) {
  const auto n = t.as_integer();
  return n && *n >= 0 && *n <= most ? n : std::nullopt;
}

} // namespace

std::optional<seq_token> seq_token::read(const term& t) {
  if (t.kind() != kind::tuple || t.arity() != 5)
    return std::nullopt;
  const auto e = t.elements();
  const auto flags = small(e[0]), serial = small(e[2]), last = small(e[4]);
  if (!flags || *flags > all_flags || !serial || !last
      || (e[3].kind() != kind::pid && !e[3].as_atom()))
    return std::nullopt;
  return seq_token{*flags, e[1], *serial, e[3], *last, 0};
}

term seq_token::to_term() const {
  return term::tuple({term::integer(flags), label, term::integer(serial), from,
                      term::integer(last)});
}

seq_token seq_token::next(const pid& sender, std::int64_t& clock) const {
  clock = std::min(std::max(clock, serial) + 1, most);
  const term me = sender;
  return {flags, label, clock, me, from == me ? last : serial, resets};
}

dist::trace_token on_wire(const std::optional<seq_token>& t) {
  return t ? dist::trace_token(t->to_term()) : std::nullopt;
}

std::optional<pid> seq_tracer::set(std::optional<pid> tracer) {
  const std::lock_guard guard(lock_);
  return std::exchange(tracer_, std::move(tracer));
}

std::optional<pid> seq_tracer::get() const {
  const std::lock_guard guard(lock_);
  return tracer_;
}

void seq_tracer::gone(const pid& tracer) {
  const std::lock_guard guard(lock_);
  if (tracer_ == tracer)
    tracer_.reset();
}

void seq_tracer::lost(atom node_name) {
  const std::lock_guard guard(lock_);
  if (tracer_ && tracer_->node == node_name)
    tracer_.reset();
}

// No connection is made for an event.
bool seq_tracer::is_in_reach(atom node_name) {
  if (node_name == home_.name())
    return true;
  const auto p = home_.connections().find(node_name);
  if (!p)
    return false;
  if (p->is_congested())
    limiter_.log(base::log_level::warning,
                 "seq_trace: an event dropped, for the connection to "
                     + std::string(node_name.name()) + " is congested");
  return !p->is_congested();
}

term seq_tracer::stamp(std::int64_t flags) {
  using namespace std::chrono;
  if ((flags & seq_token::timestamp) != 0) {
    const auto now = duration_cast<microseconds>(
                         system_clock::now().time_since_epoch())
                         .count();
    constexpr std::int64_t mega = 1'000'000;
    return term::tuple({term::integer(now / mega / mega),
                        term::integer(now / mega % mega),
                        term::integer(now % mega)});
  }
  const term ticks = term::integer(
      duration_cast<nanoseconds>(steady_clock::now().time_since_epoch())
          .count());
  if ((flags & seq_token::strict_monotonic_timestamp) == 0)
    return ticks;
  return term::tuple({ticks, term::integer(++unique_)});
}

void seq_tracer::tell(seq_token::flag what, const seq_token& t, const term& to,
                      const term& message) {
  static const atom tag("seq_trace"), server("esp_seq_trace"), send_("send"),
      receive_("receive"), print_("print");
  if ((t.flags & what) == 0)
    return;
  const auto tracer = get();
  const atom at = tracer ? tracer->node : home_.log_node();
  if (at == atom() || !is_in_reach(at))
    return;
  const term info = term::tuple(
      {what == seq_token::send      ? send_
       : what == seq_token::receive ? receive_
                                    : print_,
       term::tuple({term::integer(t.last), term::integer(t.serial)}), t.from,
       to, message});
  constexpr std::int64_t stamps = seq_token::timestamp
                                  | seq_token::strict_monotonic_timestamp
                                  | seq_token::monotonic_timestamp;
  const term event = (t.flags & stamps) != 0
                         ? term::tuple({tag, t.label, info, stamp(t.flags)})
                         : term::tuple({tag, t.label, info});
  if (tracer)
    home_.send_message(pid(), *tracer, event);
  else
    home_.send_message(pid(), server, at, event);
}

} // namespace esp::node
