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

receiver::receiver(member& node, facts_ptr of)
    : node_(node),
      of_(std::move(of)),
      half_(std::max<std::uint64_t>(1, of_->window / 2)),
      state_(to().what == receiver_spec::kind::coop     ? state::coop
             : to().what == receiver_spec::kind::demand ? state::demand
                                                        : state::metered) {
  edge_.to = to().to;
}

void receiver::attach() {
  if (state_ == state::coop) {
    node_.watch_receiver(to().to, at());
    node_.home().send_message(node_.pid(), to().to,
                              own::attach(node_.pid(), edge_.own_number));
    return;
  }
  if (state_ == state::demand)
    return open(state::demand); // what is granted is sent
  if (at() == node_.home().name())
    return open(state::unmetered);
  node_.watch_receiver(coop_meter, at());
  ask_meter();
  ask_meter();
}

void receiver::take_credit(const returned_credit& c) {
  if (state_ == state::metered) {
    edge_.window += c.units; // granted so far
  } else if (state_ == state::coop) {
    edge_.take_back(c);
  } else if (state_ == state::demand) {
    const auto units = std::min<std::uint64_t>(c.units, announced_);
    announced_ -= units;
    send_ready(units);
  }
}

void receiver::lose() noexcept {
  open(state_ == state::coop ? state::gone : state::unmetered);
}

void receiver::open(state s) noexcept {
  state_ = s;
  edge_.window = std::numeric_limits<std::uint64_t>::max();
}

void receiver::deliver(datum&& d) {
  static const atom noproc("noproc");
  if (state_ == state::demand) {
    keep(d.to_term());
    return wait_until_below(std::max<std::size_t>(1, of_->batch));
  }
  if (!edge_.has_credit()) {
    send_ready();
    node_.wait_for_credit(edge_);
  }
  if (state_ == state::gone)
    return node_.lose(tagged(d.to_term()), noproc);
  if (state_ == state::coop && of_->batch == 0)
    return node_.send_on(edge_,
                         of_->tag ? datum::of(tagged(d.to_term())) : std::move(d));
  if (++edge_.sent % half_ == 0 && state_ == state::metered)
    ask_meter();
  // Without a meter the connection's high-water mark is what keeps us from
  // filling this machine.
  if (state_ == state::unmetered)
    node_.wait_for_connection(at());
  if (of_->batch == 0)
    return send(tagged(d.to_term()), 1);
  if (keep(d.to_term()) == of_->batch)
    send_ready();
}

// A member that is given up meanwhile has its results counted by who did that.
std::size_t receiver::keep(term result) {
  const member::engine_call call(node_);
  if (!call.is_heard())
    node_.check_exit();
  if (std::exchange(datum_, node_.in_) != node_.in_)
    of_datum_ = 0;
  ++of_datum_;
  ready_.push_back({std::move(result), node_.present_token()});
  return ready_.size();
}

void receiver::flush() {
  if (state_ == state::demand)
    wait_until_below(1);
  else
    send_ready();
}

void receiver::pause() {
  if (state_ == state::demand)
    (void)announce(1);
  else
    send_ready();
}

void receiver::close() {
  if (state_ != state::demand)
    send_ready();
}

std::vector<term> receiver::left_behind(bool has_datum) {
  std::vector<term> all;
  for (auto& r : std::exchange(ready_, {}))
    all.push_back(std::move(r.value));
  if (has_datum && datum_ == node_.in_)
    all.resize(all.size() - std::min(all.size(), of_datum_));
  return all;
}

// ---- By demand --------------------------------------------------------------

void receiver::wait_until_below(std::size_t most) {
  while (announce(most))
    node_.wait_for_news();
}

bool receiver::announce(std::size_t least) {
  const member::engine_call call(node_);
  if (!call.is_heard())
    node_.check_exit();
  if (ready_.size() < least)
    return false;
  if (ready_.size() > announced_)
    node_.home().send_message(
        node_.pid(), of_->head,
        own::want(node_.pid(), edge_.own_number, ready_.size() - announced_));
  announced_ = ready_.size();
  return true;
}

// ---- The way out ------------------------------------------------------------

void receiver::send_ready(std::size_t most) {
  static const atom coop_batch("coop_batch");
  const member::engine_call call(node_);
  if (!call.is_heard())
    node_.check_exit();
  most = std::min(most, ready_.size());
  if (most == 0)
    return;
  const auto end = ready_.begin() + static_cast<std::ptrdiff_t>(most);
  const std::vector<result_of> now(ready_.begin(), end);
  ready_.erase(ready_.begin(), end);
  for (auto i = now.begin(); i != now.end();) {
    const member::token_scope under(node_, i->under);
    if (of_->batch == 0) {
      send(tagged(i++->value), 1);
      continue;
    }
    // A message has but one token.
    const auto of_another = std::find_if(i, now.end(), [&](const auto& r) {
      return !node::are_alike(r.under, i->under);
    });
    std::vector<term> batch;
    for (; i != of_another; ++i)
      batch.push_back(i->value);
    send(tagged(term::tuple({coop_batch, of_->head, term::list(batch)})),
         batch.size());
  }
}

void receiver::send(const term& message, std::size_t results) {
  const member::engine_call call(node_);
  if (!call.is_heard())
    node_.check_exit();
  if (state_ == state::demand)
    edge_.sent += results;
  node_.debug_result(message, is_pid() ? term(to().to) : term(to().name));
  if (state_ == state::coop)
    node_.send(to().to, own::data(edge_.number, results, nullptr, message));
  else if (is_pid())
    node_.send(to().to, message);
  else
    node_.send(to().name, to().node, message);
}

// Half a window more, once the receiver's queue is no longer than that.
void receiver::ask_meter() {
  node_.home().send_message(
      node_.pid(), coop_meter, at(),
      own::meter(node_.pid(), edge_.own_number, address(), half_,
                 std::max<std::uint64_t>(
                     1, half_ / std::max<std::size_t>(1, of_->batch))));
}

term receiver::tagged(term t) const {
  return of_->tag ? term::tuple({*of_->tag, std::move(t)}) : std::move(t);
}

term receiver::address() const {
  return is_pid() ? term(to().to) : term::tuple({to().name, to().node});
}

term receiver::info() const {
  static const atom words[] = {atom("metered"), atom("unmetered"), atom("coop"),
                               atom("demand"), atom("gone")};
  return term::tuple({words[static_cast<std::size_t>(state_)], address()});
}

} // namespace esp::coop
