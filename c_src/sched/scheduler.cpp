#include "sched/scheduler.hpp"

#include "sched/worker.hpp"

#include <algorithm>

namespace esp::sched {

using clock = std::chrono::steady_clock;

namespace {

constexpr std::chrono::milliseconds look_interval{20};

} // namespace

class scheduler::impl {
public:
  explicit impl(options o) {
    if (o.workers == 0)
      o.workers = std::max(1u, std::thread::hardware_concurrency());
    if (o.choose)
      o.workers = 1;
    pool_.config = o;
    pool_.watch = [this] { watch_again(); };
    // Stand-ins are made beforehand, asleep: a table of workers that never
    // changes needs no lock on the way to it.
    const unsigned stand_ins = o.choose ? 0 : o.max_abandoned + 1;
    for (unsigned i = 0; i < o.workers + stand_ins; ++i)
      pool_.workers.push_back(
          std::make_unique<worker>(pool_, i >= o.workers));
    watched_.resize(pool_.workers.size());
  }

  void start() {
    std::call_once(started_, [this] {
      for (auto& w : pool_.workers)
        w->start();
      if (!pool_.config.choose)
        watchdog_ = std::thread([this] { watch(); });
    });
  }

  ~impl() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_watchdog_.notify_one();
    if (watchdog_.joinable())
      watchdog_.join();
    for (auto& w : pool_.workers)
      w->stop();
    for (auto& w : pool_.workers)
      w->join();
  }

  // A worker keeps what it schedules, so that a chain of small tasks stays where
  // its data are; what another owns, which is awake, comes to its turn there.
  void schedule(runnable_ptr r) {
    worker* const me = worker::here();
    worker* const owner = worker::of(*r);
    if (me == nullptr || !me->is_taking_work() || !me->is_running()) {
      worker& w = choose(owner);
      w.adopt(*r);
      return w.schedule(std::move(r));
    }
    if (owner != me && !me->adopt_from_sleeper(*r)) {
      if (!owner->is_held_up())
        return owner->schedule(std::move(r));
      me->adopt(*r);
    }
    me->schedule(std::move(r));
    if (me->has_surplus())
      wake_one();
  }

  gauges read() const {
    gauges g;
    for (const auto& w : pool_.workers) {
      ++g.workers;
      g.idle += w->is_asleep() ? 1 : 0;
      g.run_queue += w->waiting();
      g.fibers += w->fiber_count();
      g.runs += w->runs();
    }
    g.stuck = pool_.stand_ins_wanted.load();
    g.blocked = pool_.blocked.load();
    return g;
  }

  std::vector<worker_gauges> read_workers() const {
    std::vector<worker_gauges> all;
    for (const auto& w : pool_.workers)
      all.push_back({w->is_stand_in(), w->is_asleep(), w->waiting(),
                     w->cpu_time()});
    return all;
  }

  pool pool_;
  std::function<void(std::vector<runnable_ptr>)> abandoned_
      = [](const std::vector<runnable_ptr>&) {};

private:
  // A sleeping worker if there is one, so that the hand-over is not behind
  // what another is running; its owner if that makes no difference.
  worker& choose(worker* owner) {
    if (owner != nullptr && owner->is_asleep() && owner->is_taking_work())
      return *owner;
    const unsigned n = pool_.config.workers;
    const unsigned start = turn_.fetch_add(1, std::memory_order_relaxed);
    for (unsigned i = 0; i < n; ++i) {
      worker& w = *pool_.workers[(start + i) % n];
      if (w.is_asleep())
        return w;
    }
    return owner != nullptr && !owner->is_held_up() ? *owner
                                                    : *pool_.workers[start % n];
  }

  void wake_one() {
    for (auto& w : pool_.workers)
      if (w->is_taking_work() && w->is_asleep()) {
        w->invite();
        return;
      }
  }

  struct watched {
    std::uint64_t beats = 0;
    clock::time_point since{};
    bool reported = false;
    std::uint64_t runs = 0;
  };

  // Rests while all workers sleep: an idle node is to cost nothing.
  void watch() {
    std::unique_lock lock(mutex_);
    while (!wake_watchdog_.wait_for(lock, look_interval,
                                    [this] { return stopping_; })) {
      if (look())
        continue;
      pool_.is_watched.store(false); // looked at in the opposite order there
      if (is_anybody_awake())
        pool_.is_watched.store(true);
      else
        wake_watchdog_.wait(
            lock, [this] { return stopping_ || pool_.is_watched.load(); });
    }
  }

  void watch_again() {
    const std::lock_guard lock(mutex_);
    pool_.is_watched.store(true);
    wake_watchdog_.notify_one();
  }

  bool is_anybody_awake() const {
    return std::any_of(pool_.workers.begin(), pool_.workers.end(),
                       [](const auto& w) { return !w->is_asleep(); });
  }

  // False: there is nothing to watch.
  bool look() {
    const auto now = clock::now();
    unsigned stuck = 0;
    bool waiting = false, working = false;
    std::vector<runnable_ptr> abandoned;
    for (std::size_t i = 0; i < pool_.workers.size(); ++i) {
      worker& w = *pool_.workers[i];
      watched& seen = watched_[i];
      waiting = waiting || w.waiting() > 0;
      working = working || !w.is_asleep();
      const auto beats = w.beats(), runs = w.runs();
      if (w.is_running() && runs == seen.runs && w.waiting() > 0)
        w.notify(); // its batch takes long, and it is others' turn
      const runnable_ptr r
          = w.is_running() && beats == seen.beats ? w.current() : nullptr;
      w.set_held_up(r != nullptr);
      if (r == nullptr) {
        seen = {beats, now, false, runs};
        continue;
      }
      const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(
          now - seen.since);
      const bool is_stuck = ms >= pool_.config.takeover;
      stuck += is_stuck ? 1 : 0;
      if ((ms >= pool_.config.long_schedule && !seen.reported) || is_stuck) {
        seen.reported = true;
        if (r->on_long_run(static_cast<std::uint32_t>(ms.count())))
          abandoned.push_back(r);
      }
    }
    if (working)
      pool_.overdue();
    if (stuck != pool_.stand_ins_wanted.exchange(stuck))
      for (std::size_t i = pool_.config.workers; i < pool_.workers.size(); ++i)
        pool_.workers[i]->want(i < pool_.config.workers + stuck);
    if (abandoned.size() >= std::max(1u, pool_.config.max_abandoned))
      abandoned_(std::move(abandoned));
    if (waiting)
      wake_one(); // run times were guessed too low, or a thread is stuck
    return waiting || working;
  }

  std::once_flag started_;
  std::atomic<unsigned> turn_{0};
  std::mutex mutex_;
  std::condition_variable wake_watchdog_;
  bool stopping_ = false;
  std::vector<watched> watched_;
  std::thread watchdog_;
};

scheduler::scheduler(options o) : impl_(std::make_unique<impl>(o)) {}
scheduler::~scheduler() = default;

void scheduler::schedule(runnable_ptr r) {
  impl_->start();
  impl_->schedule(std::move(r));
}

gauges scheduler::read() const { return impl_->read(); }
std::vector<worker_gauges> scheduler::read_workers() const {
  return impl_->read_workers();
}
const options& scheduler::config() const noexcept {
  return impl_->pool_.config;
}
void scheduler::on_pause(std::function<void()> f) {
  impl_->pool_.pause = std::move(f);
}
void scheduler::on_overdue(std::function<void()> f) {
  impl_->pool_.overdue = std::move(f);
}
void scheduler::on_abandoned(
    std::function<void(std::vector<runnable_ptr>)> f) {
  impl_->abandoned_ = std::move(f);
}

namespace this_worker {

bool is_running() noexcept {
  const worker* const w = worker::here();
  return w != nullptr && w->is_running();
}
bool has_room_to_wait() noexcept { return worker::here()->has_room_to_wait(); }

} // namespace this_worker

bool parker::prepare() noexcept {
  if (!worker::here()->reserve_block())
    return false;
  boost::fibers::context* const me = boost::fibers::context::active();
  waker_ = me->create_waker();
  return true;
}

void parker::wait() noexcept {
  worker::here()->block([] { boost::fibers::context::active()->suspend(); });
}

bool parker::wait_until(clock::time_point t) noexcept {
  bool in_time = true;
  worker::here()->block([this, t, &in_time] {
    // Boost's timed wait takes a lock to drop; nothing of ours hangs on it.
    boost::fibers::detail::spinlock none;
    boost::fibers::detail::spinlock_lock lock(none);
    auto w = waker_;
    in_time = boost::fibers::context::active()->wait_until(t, lock,
                                                           std::move(w));
  });
  return in_time;
}

void parker::cancel() noexcept {
  worker::here()->cancel_block();
  // Outdates the waker, so that a late wake() finds nobody.
  (void)boost::fibers::context::active()->create_waker();
}

void parker::wake() noexcept { waker_.wake(); }

} // namespace esp::sched
