#include "node/process.hpp"

#include "esp/process.hpp"

#include "base/log.hpp"
#include "node/node.hpp"
#include "node/spawned.hpp"
#include "node/tracing.hpp"

#include <algorithm>
#include <mutex>
#include <system_error>

namespace esp::node {

namespace {

thread_local process* current_ = nullptr;

} // namespace

process::~process() {
  const origin_ptr last(where_from(), false);
}

process* process::current() noexcept {
  return current_;
}

esp::pid process::pid() const noexcept {
  return home_.pid_of(number_);
}

void process::set_origin(origin_ptr o) {
  origin_.store(o.detach(), std::memory_order_release);
  if (tracing* const t = home_.traces(); t != nullptr && t->is_on()) {
    const auto& kin = where_from()->ancestors;
    const auto parent = kin.empty() ? std::nullopt : kin.front().as_pid();
    t->made(*this, current_ != nullptr ? current_->pid()
                                       : parent.value_or(esp::pid()));
  }
}

void process::set_traced(bool on) noexcept {
  const std::lock_guard guard(lock_);
  if (on)
    set(traced);
  else
    clear(traced);
}

process::more_of process::more() {
  for (std::unique_ptr<extra> fresh;; fresh = std::make_unique<extra>()) {
    std::unique_lock guard(lock_);
    if (!extra_)
      extra_ = std::move(fresh);
    if (extra_)
      return {std::move(guard), *extra_};
  }
}

std::unique_ptr<process::extra> process::shed() noexcept {
  const bool is_at_rest
      = (flags_.load(std::memory_order_relaxed) & (running | blocked)) == 0;
  return is_at_rest && extra_->is_bare() ? std::move(extra_) : nullptr;
}

// ---- Arriving ------------------------------------------------------------

void process::deliver(term message, const std::optional<esp::pid>& from,
                      const std::optional<seq_token>& token,
                      bool has_priority) {
  if (is_traced())
    home_.traces()->received(*this, message, from);
  // Not every server knows aliases: some answer to the pid.
  if ((flags_.load(std::memory_order_acquire) & expects) != 0
      && message.arity() == 2 && message.kind() == kind::tuple)
    if (const auto alias = alias_of(message.element(0));
        alias && receive_answer(*alias, answer_of(message, token)))
      return;
  auto accepted = accept(std::move(message), from);
  if (!accepted)
    return;
  auto& [first, to] = *accepted;
  if (has_priority && to == lane::data && first->kind == what::data
      && first->edge == no_edge) // on edges data and barriers keep their order
    to = lane::urgent;
  for (message_ptr m = std::move(first); m;) {
    message_ptr rest(std::exchange(m->next, nullptr));
    if (token)
      put_token(*m, *token);
    push(std::move(m), to);
    m = std::move(rest);
  }
}

std::optional<std::pair<message_ptr, lane>>
process::accept(term m, const std::optional<esp::pid>&) {
  return std::pair(
      std::make_unique<message>(what::data, datum::of(std::move(m))),
      lane::data);
}

void process::push(message_ptr m, lane l) noexcept {
  lock_.lock();
  const auto f = flags_.load(std::memory_order_relaxed);
  if ((f & dead) != 0
      && (l == lane::control || (f & (keeps | lane_taken)) != keeps)) {
    if (l != lane::control) // it ends here, too
      data_in_.store(data_in_.load(std::memory_order_relaxed) + 1,
                     std::memory_order_relaxed);
    lock_.unlock();
    return; // nobody will read it; `m` goes with this frame
  }
  if (l != lane::data && (f & dead) == 0) {
    set(called);
    m->urgent = l == lane::urgent;
    (m->urgent ? urgent_ : control_).push_back(std::move(m));
    control_count_.store(control_count_.load(std::memory_order_relaxed) + 1,
                         std::memory_order_relaxed);
  } else {
    set(has_far);
    data_.push_back(std::move(m));
    data_in_.store(data_in_.load(std::memory_order_relaxed) + 1,
                   std::memory_order_relaxed);
  }
  wake_if(l != lane::control
          && (flags_.load(std::memory_order_relaxed) & on_data) != 0);
  const bool run_it = enqueue();
  lock_.unlock();
  if (run_it)
    schedule();
}

// It looks at what is put there on its own worker before it comes to rest, and
// whatever ends it does so before it is gone. What came from elsewhere before goes
// first.
bool process::push_from_process(message_ptr& m) noexcept {
  std::uint32_t f = 0;
  {
    const sched::station::own_lock own(sched::this_worker::here(), *this);
    f = flags_.load(std::memory_order_relaxed);
    if (own && (f & (dead | on_data | keeps | has_far | traced)) == 0)
        [[likely]] {
      near_.push_back(std::move(m));
      near_in_.store(near_in_.load(std::memory_order_relaxed) + 1,
                     std::memory_order_relaxed);
    }
  }
  if (m) [[unlikely]] {
    if ((f & traced) != 0)
      return false;
    push(std::move(m), lane::data);
    return true;
  }
  if ((f & (queued | running)) != 0) [[likely]]
    return true;
  lock_.lock();
  const bool run_it = enqueue();
  lock_.unlock();
  if (run_it)
    schedule();
  return true;
}

void process::kick() noexcept {
  lock_.lock();
  const auto f = flags_.load(std::memory_order_relaxed);
  if (f & running)
    set(again);
  wake_if(true);
  const bool run_it = enqueue();
  lock_.unlock();
  if (run_it)
    schedule();
}

void process::wake_if(bool wanted) noexcept {
  if (wanted && (flags_.load(std::memory_order_relaxed) & blocked) != 0) {
    clear(blocked | on_data);
    extra_->parker.wake();
  }
}

bool process::enqueue() noexcept {
  const auto f = flags_.load(std::memory_order_relaxed);
  if (f & (queued | running))
    return false;
  set(queued);
  return true;
}

void process::schedule() {
  home_.workers().schedule(process_ptr(this));
}

// ---- Running -------------------------------------------------------------

void process::unread(message_list&& m) noexcept {
  for (const message* i = m.front(); i != nullptr; i = i->next)
    count_taken(static_cast<std::uint32_t>(-1)); // there again
  last_urgent_ = nullptr; // to be looked for
  mine_.prepend(std::move(m));
}

void process::take_urgent() noexcept {
  if (urgent_.empty())
    return;
  first_changes();
  if (last_urgent_ == nullptr)
    for (message* m = mine_.front(); m != nullptr && m->urgent; m = m->next)
      last_urgent_ = m;
  std::uint32_t n = 0;
  for (; message_ptr m = urgent_.pop_front(); ++n) {
    message* const next = m.get();
    mine_.insert_behind(last_urgent_, std::move(m));
    last_urgent_ = next;
  }
  count_taken(-n); // there now
  control_count_.store(control_count_.load(std::memory_order_relaxed) - n,
                       std::memory_order_relaxed);
}

std::vector<term> process::waiting(std::size_t most) {
  take_over_arrivals();
  std::vector<term> all;
  for (const message* m = mine_.front(); m != nullptr && all.size() < most;
       m = m->next)
    if (m->kind == what::data)
      try {
        all.push_back(m->value.to_term());
      } catch (...) { // users' code: this one cannot be shown
      }
  return all;
}

// False: it is to end. Null if there was no more than urgent data.
bool process::take_control(message_ptr& m) noexcept {
  const std::lock_guard guard(lock_);
  if (flags_.load(std::memory_order_relaxed) & exiting)
    return false;
  take_urgent();
  m = control_.pop_front();
  if (m)
    control_count_.store(control_count_.load(std::memory_order_relaxed) - 1,
                         std::memory_order_relaxed);
  if (control_.empty())
    clear(called);
  return true;
}

message* process::take_arrivals() noexcept {
  near_.append(std::move(data_));
  clear(has_far);
  message* const first = near_.front();
  mine_.append(std::move(near_));
  return first;
}

bool process::has_work() const noexcept {
  return control_count_.load(std::memory_order_relaxed) > 0
         || (flags_.load(std::memory_order_relaxed) & (exiting | again)) != 0;
}

// What a subclass lets out is the end of this process, not of the node.
void process::note_caught() noexcept {
  try {
    throw;
  } catch (const exit_signal&) { // noted already
  } catch (...) {
    note_exit(reason_of_current_exception(), false);
  }
}

// True if data have come.
bool process::take_over() noexcept {
  message* came = near_.front();
  if ((flags_.load(std::memory_order_acquire) & has_far) != 0) {
    const std::lock_guard guard(lock_);
    came = take_arrivals();
  } else {
    mine_.append(std::move(near_));
  }
  if (looks_at_arrivals_ && came != nullptr)
    arrived(*came);
  return came != nullptr;
}

process::stop process::handle_all_control(unsigned& n) noexcept {
  stop why = stop::at_rest;
  bool has_answered = false;
  for (;;) {
    const auto f = flags_.load(std::memory_order_acquire);
    if ((f & (exiting | called)) == 0)
      break;
    sched::this_worker::here().beat();
    if ((f & exiting) == 0 && n == messages_per_run) {
      why = stop::gives_way;
      break;
    }
    message_ptr m;
    if (!take_control(m)) {
      why = stop::ends;
      break;
    }
    if (!m)
      continue;
    ++n;
    has_answered = true;
    // What is asked under a token is answered under it.
    const bool is_under = m->env && m->kind == what::control;
    try {
      if (is_under)
        take_envelope(*m);
      handle_control(*m);
    } catch (...) {
      note_caught();
    }
    if (is_under && env_)
      let_go_of_envelope();
  }
  if (has_answered)
    home_.flush(); // an answer does not wait for the data behind it
  return why;
}

void process::run() noexcept {
  process* const outer = std::exchange(current_, this);
  lock_.lock();
  flags_.store((flags_.load(std::memory_order_relaxed) | running)
                   & ~static_cast<std::uint32_t>(queued | again),
               std::memory_order_release);
  message* came = take_arrivals();
  lock_.unlock();
  if (is_traced())
    home_.traces()->scheduled(*this, true);
  if (looks_at_arrivals_ && came != nullptr)
    arrived(*came);

  stop why = stop::called;
  for (unsigned asked = 0, data = 0; why == stop::called;) {
    why = handle_all_control(asked);
    if (why == stop::at_rest)
      why = handle_all_data(data);
  }
  if (why == stop::ends) {
    finalize();
    current_ = outer;
    return;
  }
  run_ended();
  if (is_traced())
    home_.traces()->scheduled(*this, false);

  lock_.lock();
  clear(running);
  const bool again_now =
      why == stop::gives_way || has_work()
      || (!(data_.empty() && near_.empty())
          && (looks_at_arrivals_ || (!suspended_ && mine_.empty())));
  const bool run_it = again_now && enqueue();
  lock_.unlock();
  current_ = outer;
  if (run_it)
    schedule();
}

void process::finalize() {
  finalizing_ = true;
  term reason;
  {
    const std::lock_guard guard(lock_);
    reason = *extra_->exit_reason;
  }
  ended(reason);
  fire(reason);
  message_list dropped_control;
  bool kept = false;
  {
    const std::lock_guard guard(lock_);
    kept = (flags_.load(std::memory_order_relaxed) & (keeps | lane_taken))
           == keeps;
    take_urgent();
    if (!kept)
      (void)take_arrivals();
    dropped_control = std::move(control_);
    // Stays `running`: nothing may queue it again.
  }
  if (!kept)
    mine_.clear();
  else if (!is_given_up())
    rest();
}

// ---- A lane that is kept ---------------------------------------------------

void process::enter_task_of_kept() noexcept {
  const std::lock_guard guard(lock_);
  set(in_task);
}

bool process::leave_task_of_kept() noexcept {
  const std::lock_guard guard(lock_);
  clear(in_task);
  return (flags_.load(std::memory_order_relaxed) & given_up) == 0;
}

bool process::give_up() noexcept {
  term reason;
  {
    const std::lock_guard guard(lock_);
    const auto f = flags_.load(std::memory_order_relaxed);
    if ((f & (exiting | in_task | given_up)) != (exiting | in_task))
      return false;
    set(given_up);
    reason = *extra_->exit_reason;
  }
  fire(reason);
  return true;
}

message_list process::take_lane() noexcept {
  message_list all;
  {
    const std::lock_guard guard(lock_);
    set(lane_taken);
    take_urgent();
    last_urgent_ = nullptr;
    all = std::move(mine_);
    all.append(std::move(data_));
    clear(has_far);
  }
  home_.forget(*this, atom());
  return all;
}

void process::drop_lane() noexcept {
  std::uint32_t f = 0;
  {
    const std::lock_guard guard(lock_);
    f = set(lane_taken);
  }
  if ((f & (keeps | dead)) == (keeps | dead))
    home_.forget(*this, atom());
}

void process::wait_parked(clock::time_point until) {
  home_.flush(); // whom we wait for may wait for what we sent
  process* const me = std::exchange(current_, nullptr);
  if (is_traced())
    home_.traces()->scheduled(*this, false);
  if (until == clock::time_point::max())
    extra_->parker.wait();
  else
    extra_->parker.wait_until(until);
  current_ = me;
  if (is_traced())
    home_.traces()->scheduled(*this, true);
  const std::lock_guard guard(lock_);
  clear(blocked | on_data);
}

void process::throw_exit() {
  term reason;
  {
    const std::lock_guard guard(lock_);
    reason = *extra_->exit_reason;
  }
  throw exit_signal(std::move(reason));
}

std::optional<term>
process::receive(const std::function<bool(const term&)>& matches,
                 clock::time_point until) {
  const auto wanted = [&matches](message& m) {
    return m.edge == no_edge && m.value.holds<term>()
           && matches(m.value.as<term>());
  };
  message_ptr found;
  for (bool in_time = true;;) {
    {
      const engine_call call(*this);
      if (!call.is_heard())
        check_exit();
      {
        const std::lock_guard guard(lock_);
        take_urgent();
        (void)take_arrivals();
      }
      found = mine_.extract(wanted);
      if (found)
        taken(*found);
    }
    if (found || !in_time)
      break;
    in_time = block(
        [this] {
          return !data_.empty() || !urgent_.empty() || !near_.empty();
        },
        until, true);
  }
  if (!found)
    return std::nullopt;
  received(*found);
  if (found->kind == what::data)
    take_token(*found);
  return found->value.take_as<term>();
}

bool process::on_long_run(std::uint32_t ms) noexcept {
  const auto f = flags_.load(std::memory_order_acquire);
  const bool is_late = ms >= home_.workers().config().takeover.count();
  if (!is_late) {
    base::log(base::log_level::warning, "long_schedule: " + doing()
                                            + " has run for "
                                            + std::to_string(ms) + " ms");
    return false;
  }
  end_is_overdue();
  return (f & exiting) != 0;
}

// The task had its second. What it still does is discarded.
void process::end_is_overdue() noexcept {
  const auto f = flags_.load(std::memory_order_acquire);
  if ((f & exiting) == 0)
    return;
  if ((f & dead) == 0) {
    term reason;
    {
      const std::lock_guard guard(lock_);
      reason = *extra_->exit_reason;
    }
    fire(reason);
  }
  overdue();
}

std::shared_ptr<const void> process::hold(std::shared_ptr<const void> code) {
  if (code == nullptr && process::code() == nullptr)
    return nullptr;
  return std::exchange(more()->code, std::move(code));
}

std::shared_ptr<const void> process::code() const {
  const std::lock_guard guard(lock_);
  return extra_ ? extra_->code : nullptr;
}

// ---- Looking -------------------------------------------------------------

bool process::trap_exit(bool on) {
  const std::lock_guard guard(lock_);
  const auto old = on ? set(traps) : clear(traps);
  return (old & traps) != 0;
}

bool process::is_alive() const noexcept {
  return (flags_.load(std::memory_order_acquire) & exiting) == 0;
}
bool process::has_ended() const noexcept {
  return (flags_.load(std::memory_order_acquire) & dead) != 0;
}
std::optional<term> process::exit_reason() const {
  const std::lock_guard guard(lock_);
  return extra_ ? extra_->exit_reason : std::nullopt;
}
std::size_t process::queued_data() const noexcept {
  // In this order, a look from outside never sees more taken than came.
  const std::uint32_t taken = data_out_.load(std::memory_order_acquire);
  return data_in_.load(std::memory_order_relaxed)
         + near_in_.load(std::memory_order_relaxed) - taken;
}
std::size_t process::queued_control() const noexcept {
  return control_count_.load(std::memory_order_relaxed);
}
atom process::name() const {
  const std::lock_guard guard(lock_);
  return extra_ ? extra_->name : atom();
}
void process::set_name(atom n) {
  more()->name = n;
}
esp::pid process::leader() const {
  {
    const std::lock_guard guard(lock_);
    if (extra_ && extra_->leader)
      return *extra_->leader;
  }
  return home_.default_leader();
}
std::vector<esp::pid> process::links() const {
  std::vector<esp::pid> all;
  const std::lock_guard guard(lock_);
  if (extra_)
    for (const auto& l : extra_->links)
      if (l.unlinking == 0)
        all.push_back(l.other);
  return all;
}
std::vector<term> process::monitors() const {
  std::vector<term> all;
  const std::lock_guard guard(lock_);
  if (extra_)
    for (const auto& w : extra_->watches)
      all.push_back(std::holds_alternative<esp::pid>(w.target)
                        ? term(std::get<esp::pid>(w.target))
                        : term::tuple({std::get<atom>(w.target), w.at_node}));
  return all;
}
std::vector<esp::pid> process::monitored_by() const {
  std::vector<esp::pid> all;
  const std::lock_guard guard(lock_);
  if (extra_)
    for (const auto& w : extra_->watchers)
      all.push_back(w.watcher);
  return all;
}
std::string_view process::status() const noexcept {
  const auto f = flags_.load(std::memory_order_acquire);
  if ((f & running) != 0 && (f & blocked) == 0)
    return "running";
  if ((f & queued) != 0)
    return "runnable";
  return suspended_ ? "suspended" : "waiting";
}
bool process::traps_exit() const {
  return (flags_.load(std::memory_order_relaxed) & traps) != 0;
}

} // namespace esp::node
