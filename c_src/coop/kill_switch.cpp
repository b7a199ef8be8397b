#include "coop/kill_switch.hpp"

#include "base/log.hpp"
#include "coop/builder.hpp"

#include <algorithm>

namespace esp::coop {

namespace {

// Messages to itself: a member's end, an exit signal.
const atom member_down("member_down"), ending("ending");

node::message_ptr to_self(atom tag, const term& reason) {
  return std::make_unique<node::message>(
      node::what::exit, datum::of(term::tuple({tag, reason})));
}

} // namespace

void kill_switch::take_care_of(std::vector<member_ptr> members) {
  members_ = std::move(members);
  alive_ = members_.size();
}

void kill_switch::member_ended(const member&, const term& reason) {
  push(to_self(member_down, reason), node::lane::control);
}

bool kill_switch::intercept_exit(const esp::pid& from, const term& reason,
                                 bool by_link) {
  if (!by_link && reason.is_atom("normal")) {
    const auto kin = links();
    if (std::find(kin.begin(), kin.end(), from) == kin.end())
      return true; // ignored, as by any process
  }
  push(to_self(ending, reason), node::lane::control);
  return true;
}

void kill_switch::handle_request(node::message& m) {
  const term t = m.value.as<term>();
  if (m.kind == node::what::exit) {
    if (t.is_tagged("member_down", 2)) {
      --alive_;
      begin_end(t.element(1));
      return check_gone();
    }
    return begin_end(t.element(1));
  }
  if (!t.is_tagged("$coop", 3))
    return;
  const term from = t.element(1), request = t.element(2);
  if (request.is_tagged("wire", 3) && builder_) {
    const auto b = std::move(builder_);
    home().reply(pid(), from, b->wire(request.element(1), request.element(2)));
  } else if (request.is_atom("info")) {
    home().reply(
        pid(), from,
        term::map({{atom("role"), atom("kill_switch")},
                   {atom("name"), atom("kill_switch")},
                   {atom("nodes"),
                    term::integer(static_cast<std::int64_t>(alive_))},
                   {atom("status"),
                    atom(is_suspended() ? "suspended" : "running")}}));
  } else {
    home().reply(pid(), from,
                 term::tuple({atom("error"),
                              term::tuple({atom("unknown_request"),
                                           request})}));
  }
}

void kill_switch::begin_end(const term& reason) {
  if (ending_)
    return;
  ending_ = reason;
  for (const auto& m : members_)
    m->end(reason);
  check_gone();
}

void kill_switch::check_gone() {
  if (ending_ && alive_ == 0)
    finish(*ending_);
}

// Killed outright, it still takes its members along.
void kill_switch::ended(const term& reason) {
  for (const auto& m : members_)
    m->end(reason);
  members_.clear();
  builder_.reset();
}

void kill_switch::handle_data(node::message_ptr m) {
  static base::log_limiter limiter;
  limiter.log(base::log_level::notice,
                   "not understood by the kill switch "
                       + term(pid()).to_string() + ": "
                       + m->value.to_term().to_string(200));
}

std::optional<std::pair<node::message_ptr, node::lane>>
kill_switch::accept_own(term message) {
  return control(std::move(message));
}

otp::answer kill_switch::state() {
  std::vector<term> nodes;
  for (const auto& m : members_)
    nodes.push_back(term::tuple({m->name_in_template(), m->pid()}));
  return term::map({{atom("nodes"), term::list(nodes)},
                    {atom("alive"),
                     term::integer(static_cast<std::int64_t>(alive_))}});
}

atom kill_switch::module() const {
  static const atom m("coop_kill_switch");
  return m;
}

} // namespace esp::coop
