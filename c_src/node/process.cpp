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

// Data handled in one run(): enough to make the switch cheap, few enough that
// a neighbour's turn comes within microseconds.
constexpr int data_per_run = 64;

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

void process::deliver(term message, const std::optional<esp::pid>& from) {
  if (is_traced())
    home_.traces()->received(*this, message, from);
  // Not every server knows aliases: some answer to the pid.
  if ((flags_.load(std::memory_order_acquire) & expects) != 0
      && message.arity() == 2 && message.kind() == kind::tuple)
    if (const auto alias = alias_of(message.element(0));
        alias && receive_answer(*alias, message))
      return;
  if (auto accepted = accept(std::move(message), from))
    push(std::move(accepted->first), accepted->second);
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
    if (l == lane::data) // it ends here, too
      data_in_.store(data_in_.load(std::memory_order_relaxed) + 1,
                     std::memory_order_relaxed);
    lock_.unlock();
    return; // nobody will read it; `m` goes with this frame
  }
  if (l == lane::control) {
    control_.push_back(std::move(m));
    control_count_.store(control_count_.load(std::memory_order_relaxed) + 1,
                         std::memory_order_relaxed);
  } else {
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
  mine_.prepend(std::move(m));
}

void process::put_ahead(message_ptr m) noexcept {
  count_taken(static_cast<std::uint32_t>(-1)); // there again
  mine_.push_urgent(std::move(m));
}

bool process::take_control(message_list& into) noexcept {
  const std::lock_guard guard(lock_);
  if (flags_.load(std::memory_order_relaxed) & exiting)
    return false;
  into.append(std::move(control_));
  control_count_.store(0, std::memory_order_relaxed);
  return true;
}

message* process::take_arrivals() noexcept {
  message* const first = data_.front();
  mine_.append(std::move(data_));
  return first;
}

bool process::has_work() const noexcept {
  return !control_.empty()
         || (flags_.load(std::memory_order_relaxed) & (exiting | again)) != 0;
}

// What a subclass lets out is the end of this process, not of the node.
template <class F>
void process::guarded(F&& f) noexcept {
  try {
    f();
  } catch (const exit_signal&) { // noted already
  } catch (...) {
    note_exit(reason_of_current_exception(), false);
  }
}

void process::run() noexcept {
  process* const outer = std::exchange(current_, this);
  lock_.lock();
  flags_.store(static_cast<std::uint16_t>(
                   (flags_.load(std::memory_order_relaxed) | running)
                   & ~(queued | again)),
               std::memory_order_release);
  message* came = take_arrivals();
  lock_.unlock();
  if (is_traced())
    home_.traces()->scheduled(*this, true);
  if (looks_at_arrivals_ && came != nullptr)
    arrived(*came);

  message_list control;
  bool more_data = false;
  for (int n = 0;;) {
    if ((flags_.load(std::memory_order_acquire) & exiting) != 0
        || control_count_.load(std::memory_order_acquire) > 0) {
      if (!take_control(control)) {
        finalize();
        current_ = outer;
        return;
      }
    }
    if (!control.empty()) {
      const message_ptr m = control.pop_front();
      guarded([&] { handle_control(*m); });
      if (control.empty())
        home_.flush(); // an answer does not wait for the data behind it
      continue;
    }
    if (suspended_ || !can_take_data()) {
      more_data = false; // until a kick
      break;
    }
    if (mine_.empty()) {
      {
        const std::lock_guard guard(lock_);
        came = take_arrivals();
      }
      if (looks_at_arrivals_ && came != nullptr)
        arrived(*came);
    }
    if (mine_.empty()) {
      more_data = false;
      break;
    }
    if (n == data_per_run || sched::this_worker::beat(n > 0)) {
      more_data = true;
      break;
    }
    ++n;
    message_ptr m = mine_.pop_front();
    count_taken(1);
    handled_.store(handled_.load(std::memory_order_relaxed) + 1,
                   std::memory_order_relaxed);
    guarded([&] { handle_data(std::move(m)); });
  }
  run_ended();
  if (is_traced())
    home_.traces()->scheduled(*this, false);

  lock_.lock();
  clear(running);
  const bool again_now =
      more_data || has_work()
      || (!data_.empty()
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
  message_list dropped_data, dropped_control;
  bool kept = false;
  {
    const std::lock_guard guard(lock_);
    kept = (flags_.load(std::memory_order_relaxed) & (keeps | lane_taken))
           == keeps;
    if (!kept)
      dropped_data = std::move(data_);
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
    all = std::move(mine_);
    all.append(std::move(data_));
  }
  home_.forget(*this, atom());
  return all;
}

void process::drop_lane() noexcept {
  std::uint16_t f = 0;
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
        mine_.append(std::move(data_));
      }
      found = mine_.extract(wanted);
    }
    if (found || !in_time)
      break;
    in_time = block([this] { return !data_.empty(); }, until, true);
  }
  if (!found)
    return std::nullopt;
  count_taken(1);
  received(*found);
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
  return data_in_.load(std::memory_order_relaxed) - taken;
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
