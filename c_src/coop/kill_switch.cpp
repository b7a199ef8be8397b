#include "coop/kill_switch.hpp"

#include "esp/process.hpp"

#include "base/log.hpp"
#include "coop/builder.hpp"
#include "coop/own_messages.hpp"
#include "node/spawned.hpp"
#include "otp/logging.hpp"

#include <algorithm>
#include <iterator>

namespace esp::coop {

namespace {

// Messages to itself: a member's end, that it is at rest or was given up, the
// head's stop, an exit signal, that its members or the builder are there; that
// there is a late node, and its end.
const atom member_down("member_down"), rests("rests"), abandoned("abandoned"),
    head_stopped("head_stopped"), ending("ending"), adopted("adopted"),
    handed_over("handed_over"), late_adopted("late_adopted"),
    late_down("late_down"), change("change"), purged("purged");

constexpr std::size_t max_reason = 8u << 10; // bytes of it in a log event

// Numbers of edges that are made late, beyond those of a template; those of a
// VM are above.
constexpr std::uint32_t first_late_edge = 1'000'000, first_started = 1u << 30;

node::message_ptr to_self(atom tag, const term& reason) {
  return std::make_unique<node::message>(node::what::exit,
                                         datum::of(term::tuple({tag, reason})));
}

} // namespace

kill_switch::~kill_switch() = default;

void kill_switch::adopt(std::vector<member_ptr> members) {
  {
    const std::lock_guard guard(inbox_);
    if (!is_over_)
      adopted_ = std::exchange(members, {});
  }
  for (const auto& m : members)
    m->let_go(); // its maker ends it
  push(to_self(adopted, term()), node::lane::control);
}

void kill_switch::take_care_of(std::vector<member_ptr> members) {
  members_ = std::move(members);
  alive_ = in_task_ = static_cast<std::int64_t>(members_.size());
}

void kill_switch::take_over(std::shared_ptr<builder> b) {
  {
    const std::lock_guard guard(inbox_);
    if (is_over_)
      return; // nobody would let go of it
    handed_over_ = std::move(b);
  }
  push(to_self(handed_over, term()), node::lane::control);
}

bool kill_switch::adopt(member_ptr late) {
  {
    const std::lock_guard guard(inbox_);
    if (is_over_)
      return false;
    late_adopted_.push_back(std::move(late));
  }
  push(to_self(late_adopted, term()), node::lane::control);
  return true;
}

void kill_switch::late_ended(std::uint64_t number, const term& reason,
                             bool is_orderly) noexcept {
  const term which = term::integer(static_cast<std::int64_t>(number));
  push(to_self(late_down, is_orderly ? term::tuple({which})
                                     : term::tuple({which, reason})),
       node::lane::control);
}

std::uint32_t kill_switch::next_edge(late_kind k) noexcept {
  if (k == late_kind::started)
    return first_started
           + started_edges_.fetch_add(1, std::memory_order_relaxed)
                 % first_started;
  return first_late_edge
         + worker_edges_.fetch_add(1, std::memory_order_relaxed)
               % (first_started - first_late_edge);
}

void kill_switch::member_ended(const term& reason) {
  push(to_self(member_down, reason), node::lane::control);
}

void kill_switch::member_rests(bool is_given_up) noexcept {
  push(to_self(is_given_up ? abandoned : rests, term()), node::lane::control);
}

void kill_switch::lost_datum(bool is_dead_lettered) noexcept {
  (is_dead_lettered ? dead_lettered_ : lost_)
      .fetch_add(1, std::memory_order_relaxed);
}

void kill_switch::head_has_stopped() {
  push(to_self(head_stopped, term()), node::lane::control);
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
  if (m.kind == node::what::down) {
    if (const auto r = t.element(1).as_ref(); r && change_ && change_->lost(*r))
      return;
    return hear(t); // of one that is being made
  }
  if (m.kind == node::what::exit)
    return heard(t.element(0), t.element(1));
  if (t.is_tagged("$coop", 3))
    request(t.element(1), t.element(2));
  else if (t.is_tagged("$coop", 4))
    about_workers(t.element(1), t.element(2).as_pid(), t.element(3));
}

// {'$coop', more, Router, Edge} and {'$coop', mark, Caller, Mark}
void kill_switch::about_workers(const term& word,
                                const std::optional<esp::pid>& who,
                                const term& what) {
  const auto edge = what.as_integer().value_or(0);
  if (word.is_atom("more") && who && edge > 0 && edge < first_late_edge)
    supply(*who, static_cast<std::uint32_t>(edge));
  else if (word.is_atom("mark") && who && what.is_tagged("$coop", 4))
    home().send_message(pid(), *who, what);
}

void kill_switch::heard(const term& what, const term& reason) {
  if (what == ending)
    return begin_end(reason);
  if (what == change)
    return hear_change(reason);
  if (what == purged)
    return take_current(*reason.as_atom());
  if (what == late_adopted)
    return take_in_late();
  if (what == late_down) {
    take_in_late();
    const auto which = reason.element(0).as_integer().value_or(0);
    const auto gone = late_.extract(static_cast<std::uint64_t>(which));
    if (reason.arity() == 1) {
      if (change_)
        change_->gone(static_cast<std::uint64_t>(which));
      return check_gone();
    }
    if (gone)
      inside_late_ += gone.mapped()->inside();
    return ending_ ? check_gone() : fell(reason.element(1));
  }
  if (what == adopted) {
    {
      const std::lock_guard guard(inbox_);
      members_ = std::move(adopted_);
    }
    alive_ += static_cast<std::int64_t>(members_.size());
    in_task_ += static_cast<std::int64_t>(members_.size());
    if (ending_)
      for (const auto& m : members_)
        m->end(*ending_);
    return check_gone();
  }
  if (what == handed_over) {
    {
      const std::lock_guard guard(inbox_);
      builder_ = std::move(handed_over_);
    }
    of_ = builder_->about();
    edges_ = builder_->edges_here();
    {
      auto used = builder_->images();
      const std::lock_guard guard(inbox_);
      images_.swap(used);
    }
    for (const auto& [router, edge] : std::exchange(early_orders_, {}))
      supply(router, edge);
    if (!limit_ && !builder_->is_led() && !builder_->has_workers())
      builder_.reset();
    else if (const auto early = std::exchange(early_, std::nullopt))
      fell(*early);
    return;
  }
  if (what == member_down) {
    --alive_;
    if (ending_)
      return check_gone();
    fell(reason);
    return check_fallen();
  }
  if (what == head_stopped)
    head_runs_ = false;
  else
    --in_task_;
  // Whatever shares a thread with it cannot come to rest either.
  if (what == abandoned)
    for (const auto& each : members_)
      each->abandon();
  check_fallen();
}

void kill_switch::request(const term& from, const term& what) {
  const auto failed = [&] {
    home().reply(pid(), from, term::tuple({atom("error"), reason_}));
  };
  if (code_change::is_about(what)) {
    if (!change_)
      change_ = std::make_unique<code_change>(*this);
    return change_->request(from, what);
  }
  if (what.is_tagged("wire", 3) && builder_) {
    if (phase_ != phase::whole && phase_ != phase::wiring)
      return failed();
    home().reply(pid(), from, builder_->wire(what.element(1), what.element(2)));
    phase_ = phase::whole;
    if (!limit_ && !builder_->has_workers())
      builder_.reset();
  } else if (what.is_tagged("fall", 2) && limit_) {
    fall_ = from;
    fall(what.element(1));
  } else if (what.is_atom("rebuild") && limit_) {
    if (phase_ != phase::fallen)
      return failed();
    rebuild_ = from;
    rebuild();
  } else if (what.is_atom("info")) {
    home().reply(pid(), from,
                 term::map({{atom("role"), atom("kill_switch")},
                            {atom("name"), atom("kill_switch")},
                            {atom("nodes"), term::integer(alive_)},
                            {atom("status"),
                             atom(is_suspended() ? "suspended" : "running")}}));
  } else {
    home().reply(pid(), from,
                 term::tuple({atom("error"),
                              term::tuple({atom("unknown_request"), what})}));
  }
}

void kill_switch::begin_end(const term& reason) {
  if (ending_)
    return;
  ending_ = reason;
  if (change_)
    change_->drop(reason, false);
  for (const auto& m : members_)
    m->end(reason);
  for (const auto& [number, m] : late_)
    m->end(reason);
  take_in_late();
  check_gone();
}

void kill_switch::check_gone() {
  if (!ending_ || alive_ != 0 || !late_.empty())
    return;
  report();
  finish(*ending_);
}

// How many data go with the co-op, at least: what is on its way, nobody counts.
// Of a mixed co-op the VM's kill switch says it, which waits for this one's
// end.
void kill_switch::report() {
  if (!of_ || node::is_orderly(*ending_))
    return;
  std::uint64_t n = lost_.load(std::memory_order_relaxed);
  if (builder_)
    n += builder_->waiting();
  if (of_->head)
    n += of_->head->inside();
  n += inside_late_;
  for (const auto& m : members_)
    n += m->inside();
  if (of_->leader)
    return home().send_message(pid(), *of_->leader, own::inside(pid(), n));
  const term data = term::tuple(
      {atom("at_least"), term::integer(static_cast<std::int64_t>(n))});
  home().on_log(
      this, level::error,
      term::map(
          {{atom("label"), term::tuple({atom("coop"), atom("terminated")})},
           {atom("name"), of_->name == atom() ? atom("undefined") : of_->name},
           {atom("head"), of_->head->pid()},
           {atom("reason"), otp::cut(*ending_, max_reason)},
           {atom("data"), data}}),
      {});
}

// Killed outright, it still takes its members along.
void kill_switch::ended(const term& reason) {
  std::shared_ptr<builder> unseen;
  {
    const std::lock_guard guard(inbox_);
    is_over_ = true;
    unseen = std::move(handed_over_);
    std::move(adopted_.begin(), adopted_.end(), std::back_inserter(members_));
    adopted_.clear();
  }
  for (const auto& m : members_) {
    m->end(reason);
    m->let_go();
  }
  members_.clear();
  take_in_late();
  for (const auto& [number, m] : late_)
    m->end(reason);
  late_.clear();
  builder_.reset();
  of_.reset();
  change_.reset();
}

// ---- Late nodes -------------------------------------------------------------

void kill_switch::take_in_late() {
  std::vector<member_ptr> came;
  {
    const std::lock_guard guard(inbox_);
    came.swap(late_adopted_);
  }
  for (auto& m : came) {
    if (ending_)
      m->end(*ending_);
    const auto number = m->number();
    late_.emplace(number, std::move(m));
  }
}

// As many workers as its router gets at a time.
void kill_switch::supply(const esp::pid& router, std::uint32_t edge) {
  if ((!builder_ && !of_) || (change_ && change_->is_under_way())) // it comes
    return early_orders_.emplace_back(router, edge), void();
  std::vector<term> workers;
  try {
    if (builder_ && !ending_)
      workers = builder_->more_workers(builder_, router, edge);
  } catch (...) { // no room for so many processes
    return begin_end(node::reason_of_current_exception());
  }
  if (!workers.empty())
    home().send_message(pid(), router, own::fresh(edge, workers));
}

// ---- Changes of code ---------------------------------------------------------

void kill_switch::change_answered(std::uint64_t node, std::uint32_t order,
                                  const std::optional<term>& refusal) noexcept {
  const auto number = [](std::uint64_t n) {
    return term::integer(static_cast<std::int64_t>(n));
  };
  push(to_self(change, refusal
                           ? term::tuple({number(node), number(order), *refusal})
                           : term::tuple({number(node), number(order)})),
       node::lane::control);
}

void kill_switch::hear_change(const term& t) {
  const auto number = [&](std::size_t i) {
    return static_cast<std::uint64_t>(t.element(i).as_integer().value_or(0));
  };
  if (change_)
    change_->answered(number(0), static_cast<std::uint32_t>(number(1)),
                      t.arity() == 3 ? std::optional(t.element(2))
                                     : std::nullopt);
}

void kill_switch::purge(atom plugin) noexcept {
  push(to_self(purged, plugin), node::lane::control);
}

void kill_switch::take_current(atom plugin) {
  const auto to = tasks_ != nullptr ? tasks_->find(plugin.name()) : nullptr;
  if (!to || !builder_ || !builder_->can_change_to(*to))
    return;
  builder_->change_to(to);
  ++generation_; // no barrier that is under way answers for it
  const std::lock_guard guard(inbox_);
  for (auto& i : images_)
    if (i->name() == to->name() && i != to)
      left_images_.emplace_back(generation_.load(), std::exchange(i, to));
}

// Before the nodes change: nothing of the new image is under way before it is
// kept.
void kill_switch::changes(const images& from_to) {
  ++generation_;
  for (const auto& [from, to] : from_to) {
    left(from, to);
    if (builder_)
      builder_->change_to(to);
  }
}

void kill_switch::changed(const plugin::image_ptr& from,
                          const plugin::image_ptr& to) {
  ++generation_; // no barrier that is under way answers for it
  left(from, to);
}

void kill_switch::left(const plugin::image_ptr& from,
                       const plugin::image_ptr& to) {
  const std::lock_guard guard(inbox_);
  left_images_.emplace_back(generation_.load(), from);
  if (std::find(images_.begin(), images_.end(), to) == images_.end())
    images_.push_back(to);
}

// Images that other nodes still run are held by these.
void kill_switch::let_go(std::uint64_t generation) {
  std::vector<plugin::image_ptr> gone; // they go with no lock held
  const std::lock_guard guard(inbox_);
  std::erase_if(left_images_, [&](auto& each) {
    if (each.first > generation)
      return false;
    std::erase(images_, each.second);
    gone.push_back(std::move(each.second));
    return true;
  });
}

void kill_switch::change_is_over() {
  for (const auto& [router, edge] : std::exchange(early_orders_, {}))
    supply(router, edge);
}

// ---- Restarts -------------------------------------------------------------

// One node has ended, or could not be made: so must the others.
void kill_switch::fell(const term& reason) {
  if (!limit_ || ending_)
    return begin_end(reason);
  if (phase_ == phase::falling || phase_ == phase::fallen)
    return;
  if (!builder_) { // still with who makes the co-op
    early_ = reason;
    return;
  }
  if (builder_->is_led())
    home().send_message(pid(), builder_->leader(), own::fell(pid(), reason));
  else if (!may_restart())
    return begin_end(reason);
  fall(reason);
}

void kill_switch::fall(const term& reason) {
  if (ending_)
    return;
  if (phase_ == phase::whole)
    head_runs_ = builder_->stop_entry();
  if (phase_ != phase::falling && phase_ != phase::fallen)
    reason_ = reason;
  phase_ = phase::falling;
  if (change_)
    change_->drop(term::tuple({atom("restarted"), reason}), true);
  for (const auto& m : members_)
    m->end(reason);
  check_fallen();
}

// A member that another thread has killed can come to rest before that thread
// gets to say that it is down: what is still to be said of this body would be
// taken for the next one's.
void kill_switch::check_fallen() {
  if (phase_ != phase::falling || in_task_ != 0 || alive_ != 0 || head_runs_)
    return;
  phase_ = phase::fallen;
  if (rebuild_) // it fell again on the way
    home().reply(pid(), *std::exchange(rebuild_, std::nullopt),
                 term::tuple({atom("error"), reason_}));
  if (fall_)
    home().reply(pid(), *std::exchange(fall_, std::nullopt),
                 builder_->fallen());
  else if (!builder_->is_led())
    rebuild();
}

void kill_switch::rebuild() {
  phase_ = phase::rebuilding;
  builder_->begin_again(*this);
  if (builder_->is_done())
    built();
}

void kill_switch::hear(const term& t) {
  if (phase_ != phase::rebuilding)
    return;
  builder_->hear(*this, t);
  if (const auto& wrong = builder_->failure())
    fell(*wrong);
  else if (builder_->is_done())
    built();
}

void kill_switch::built() {
  if (!rebuild_) {
    phase_ = phase::whole;
    return builder_->connect_again(reason_, take_losses());
  }
  phase_ = phase::wiring;
  home().reply(pid(), *std::exchange(rebuild_, std::nullopt),
               builder_->rebuilt(take_losses()));
}

bool kill_switch::may_restart() {
  const auto now = clock::now();
  while (!restarts_.empty()
         && now - restarts_.front() > std::chrono::seconds(limit_->period))
    restarts_.pop_front();
  if (restarts_.size() >= limit_->intensity)
    return false;
  restarts_.push_back(now);
  return true;
}

losses kill_switch::take_losses() noexcept {
  return {lost_.exchange(0), dead_lettered_.exchange(0),
          std::exchange(delivered_, 0)};
}

void kill_switch::handle_data(node::message_ptr m) {
  const term t = m->value.to_term();
  if (t.is_tagged("$init", 3) || t.is_tagged("$init", 4))
    return hear(t);
  static base::log_limiter limiter;
  limiter.log(base::log_level::notice, "not understood by the kill switch "
                                           + term(pid()).to_string() + ": "
                                           + t.to_string(200));
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
                    {atom("alive"), term::integer(alive_)}});
}

atom kill_switch::module() const {
  static const atom m("coop_kill_switch");
  return m;
}

} // namespace esp::coop
