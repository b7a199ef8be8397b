#include "coop/receiver.hpp"

#include "coop/member.hpp"
#include "coop/own_messages.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace esp::coop {

namespace {

const atom coop_meter("coop_meter");

} // namespace

receiver::receiver(member& node, receiver_spec to, std::optional<term> tag,
                   std::uint64_t window)
    : node_(node),
      to_(std::move(to)),
      tag_(std::move(tag)),
      half_(std::max<std::uint64_t>(1, window / 2)),
      state_(to_.what == receiver_spec::kind::coop ? state::coop
                                                   : state::metered) {
  edge_.to = to_.to;
}

void receiver::attach() {
  if (state_ == state::coop) {
    node_.watch_receiver(to_.to, at());
    node_.home().send_message(node_.pid(), to_.to,
                              own::attach(node_.pid(), edge_.own_number));
    return;
  }
  if (at() == node_.home().name())
    return open(state::unmetered);
  node_.watch_receiver(coop_meter, at());
  ask_meter();
  ask_meter();
}

void receiver::take_credit(const returned_credit& c) noexcept {
  if (state_ == state::metered)
    edge_.window += c.units; // granted so far
  else if (state_ == state::coop)
    edge_.take_back(c);
}

void receiver::lose() noexcept {
  open(state_ == state::coop ? state::gone : state::unmetered);
}

void receiver::open(state s) noexcept {
  state_ = s;
  edge_.window = std::numeric_limits<std::uint64_t>::max();
}

void receiver::deliver(datum d) {
  static const atom noproc("noproc");
  if (tag_)
    d = datum::of(term::tuple({*tag_, d.to_term()}));
  node_.wait_for_credit(edge_);
  if (state_ == state::gone)
    return node_.lose(d.to_term(), noproc);
  if (state_ == state::coop)
    return node_.send_on(edge_, std::move(d));
  if (++edge_.sent % half_ == 0 && state_ == state::metered)
    ask_meter();
  send(d.to_term());
}

void receiver::send(const term& result) {
  node_.debug_result(result, is_pid() ? term(to_.to) : term(to_.name));
  // Without a meter the connection's high-water mark is what keeps us from
  // filling this machine.
  if (state_ == state::unmetered)
    node_.wait_for_connection(at());
  if (is_pid())
    node_.home().send_message(node_.pid(), to_.to, result);
  else
    node_.home().send_message(node_.pid(), to_.name, to_.node, result);
}

// Half a window more, once the receiver's queue is no longer than that.
void receiver::ask_meter() {
  node_.home().send_message(
      node_.pid(), coop_meter, at(),
      own::meter(node_.pid(), edge_.own_number, address(), half_));
}

term receiver::address() const {
  return is_pid() ? term(to_.to) : term::tuple({to_.name, to_.node});
}

term receiver::info() const {
  static const atom words[] = {atom("metered"), atom("unmetered"), atom("coop"),
                               atom("gone")};
  return term::tuple({words[static_cast<std::size_t>(state_)], address()});
}

} // namespace esp::coop
