#include "sched/worker.hpp"

#include <boost/fiber/fiber.hpp>
#include <boost/fiber/operations.hpp>

#include <cassert>
#include <memory>

#include <pthread.h>

namespace esp::sched {

namespace fibers = boost::fibers;
using clock = std::chrono::steady_clock;

namespace {

// More idle runners than this give their stack back.
constexpr std::size_t max_idle_runners = 64;
// One run() in so many is timed: a clock costs as much as a short run.
constexpr std::uint64_t timed_runs = 16;
// A worker that never sleeps still looks after timers this often.
constexpr std::uint64_t runs_between_yields = 256;
// Waking another worker costs this much; less work stays where it is.
constexpr std::uint64_t worth_waking_ns = 30'000;

} // namespace

constinit thread_local station* detail::here = nullptr;

// Ready fibers first come first served; a runner only when none is ready and
// there is something to run. Stock algorithms keep their workers spinning or
// would have each runnable be a fiber.
class worker::algorithm final : public fibers::algo::algorithm {
public:
  explicit algorithm(worker& w) : worker_(w) {}

  void awakened(fibers::context* c) noexcept override {
    c->ready_link(ready_);
    if (!c->is_context(fibers::type::dispatcher_context))
      ++worker_.ready_fibers_;
  }

  fibers::context* pick_next() noexcept override {
    if (!ready_.empty()) {
      fibers::context* const c = &ready_.front();
      ready_.pop_front();
      if (!c->is_context(fibers::type::dispatcher_context))
        --worker_.ready_fibers_;
      return c;
    }
    auto& idle = worker_.idle_runners_;
    if (!idle.empty() && worker_.loops_ == 0
        && (worker_.has_work()
            || worker_.stopping_.load(std::memory_order_relaxed))) {
      fibers::context* const c = idle.back();
      idle.pop_back();
      ++worker_.loops_;
      return c;
    }
    return nullptr;
  }

  bool has_ready_fibers() const noexcept override { return !ready_.empty(); }

  // asleep_ and the queues are looked at in opposite orders here and in
  // scheduler::schedule(), with a full fence between: one sees the other.
  void suspend_until(const clock::time_point& t) noexcept override {
    std::unique_lock lock(worker_.sleep_mutex_);
    worker_.asleep_.store(true);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const auto awake = [this] {
      return worker_.notified_.load() || worker_.has_work()
             || (worker_.stopping_.load() && !worker_.idle_runners_.empty());
    };
    if (t == clock::time_point::max())
      worker_.sleep_.wait(lock, awake);
    else
      worker_.sleep_.wait_until(lock, t, awake);
    worker_.notified_.store(false, std::memory_order_relaxed);
    worker_.asleep_.store(false);
    lock.unlock();
    if (!worker_.pool_.is_watched.load())
      worker_.pool_.watch();
  }

  void notify() noexcept override { worker_.notify(); }

private:
  worker& worker_;
  fibers::scheduler::ready_queue_type ready_;
};

worker::worker(pool& p, bool is_stand_in)
    : pool_(p), is_stand_in_(is_stand_in) {
  choose_ = p.config.choose;
}

void worker::join() {
  if (thread_.joinable())
    thread_.join();
}

void worker::start() {
  thread_ = std::thread([this] { main(); });
}

void worker::stop() noexcept {
  stopping_.store(true);
  notify();
}

void worker::want(bool wanted) noexcept {
  wanted_.store(wanted, std::memory_order_relaxed);
  notify();
}

void worker::notify() noexcept {
  if (notified_.exchange(true) && !is_asleep())
    return; // told already, and awake to hear it
  const std::lock_guard lock(sleep_mutex_);
  sleep_.notify_one();
}

void worker::invite() noexcept {
  invited_.store(true, std::memory_order_relaxed);
  notify();
}

runnable_ptr worker::current() noexcept {
  const std::lock_guard lock(own_);
  return current_.load(std::memory_order_relaxed);
}

// The watchdog may be taking a reference: what is current must not be let go
// before it is no longer current.
void worker::set_current(runnable* r) noexcept {
  own_.lock_own();
  current_.store(r, std::memory_order_relaxed);
  own_.unlock_own();
}

// ---- Queues ------------------------------------------------------------------

void worker::schedule(runnable_ptr r) noexcept {
  if (here() == this) {
    own_.lock_own();
    queue_.push(std::move(r));
    own_.unlock_own();
    return;
  }
  {
    const std::lock_guard lock(inbox_lock_);
    inbox_.push(std::move(r));
  }
  std::atomic_thread_fence(std::memory_order_seq_cst); // see suspend_until()
  if (is_asleep())
    notify();
}

void worker::adopt(runnable& r) noexcept {
  worker* const before = of(r);
  if (before == nullptr || before == this)
    return own(r);
  const std::lock_guard lock(before->own_);
  own(r);
}

bool worker::adopt_from_sleeper(runnable& r) noexcept {
  worker* const before = of(r);
  if (before == nullptr || before == this) {
    own(r);
    return true;
  }
  // It cannot wake as long as this is held.
  const std::lock_guard lock(before->sleep_mutex_);
  if (!before->is_asleep())
    return false;
  own(r);
  return true;
}

// Half of what waits with another, the oldest first.
bool worker::steal() noexcept {
  for (const auto& other : pool_.workers) {
    if (other.get() == this || other->waiting() == 0)
      continue;
    run_list taken;
    {
      const std::lock_guard lock(other->own_);
      const std::lock_guard inbox_lock(other->inbox_lock_);
      for (std::size_t n = (other->waiting() + 1) / 2; n > 0; --n) {
        runnable_ptr r = other->queue_.pop();
        if (!r)
          r = other->inbox_.pop();
        own(*r);
        taken.push(std::move(r));
      }
    }
    if (taken.size() == 0)
      continue;
    own_.lock_own();
    queue_.append(taken);
    own_.unlock_own();
    return true;
  }
  return false;
}

// A clock of its own, so that a run() need not look at any.
std::chrono::nanoseconds worker::cpu_time() const noexcept {
  const clockid_t id = cpu_clock_.load(std::memory_order_relaxed);
  timespec t{};
  if (id == 0 || ::clock_gettime(id, &t) != 0)
    return {};
  return std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec);
}

bool worker::has_surplus() const noexcept {
  const std::uint64_t n = waiting();
  return n > 0
         && n * run_ns_.load(std::memory_order_relaxed)
                > worth_waking_ns;
}

void worker::main() {
  detail::here = this;
  if (clockid_t id; ::pthread_getcpuclockid(::pthread_self(), &id) == 0)
    cpu_clock_.store(id, std::memory_order_relaxed);
  const signal_stack alternate; // a handler cannot run on an overflown stack
  algorithm_ = new algorithm(*this);
  main_ = fibers::context::active();
  main_->get_scheduler()->set_algo(algorithm_);
  add_runner();
  const auto own = stack_mark::of_thread();
  while (fiber_count() > 0)
    main_->suspend(); // the last runner wakes it
  own.enter();
  cpu_clock_.store(0, std::memory_order_relaxed);
  detail::here = nullptr;
}

void worker::add_runner() {
  pooled_stack stacks(pool_.config.stack_size);
  const auto mark = std::make_shared<stack_mark>();
  fibers::fiber(fibers::launch::post, std::allocator_arg, stacks,
                [this, mark] { runner(*mark); })
      .detach();
  *mark = stack_mark::of_last_allocated(); // it has not begun yet
  fibers_.fetch_add(1, std::memory_order_relaxed);
  ++loops_;
}

void worker::runner(const stack_mark& mark) {
  for (;;) {
    go_on(mark);
    if (runnable_ptr r = next()) {
      if (const std::size_t stack = r->stack_size();
          stack > pool_.config.stack_size)
        execute_on_own_fiber(std::move(r), stack);
      else
        execute(std::move(r));
      if (loops_ > 1) { // another took over while this one was held
        if (!park())
          break;
      } else if (should_yield()
                 || runs() % runs_between_yields == 0) {
        notified_.store(false, std::memory_order_relaxed);
        fibers::context::active()->yield();
      }
      continue;
    }
    pool_.pause();
    if (has_work())
      continue; // what was sent in the pause came back
    if (!park())
      break;
  }
  --loops_;
  if (fibers_.fetch_sub(1, std::memory_order_relaxed) == 1)
    fibers::context::active()->schedule(main_);
}

bool worker::park() {
  if (stopping_.load(std::memory_order_relaxed) && !has_work())
    return false;
  if (idle_runners_.size() >= max_idle_runners)
    return false;
  fibers::context* const me = fibers::context::active();
  idle_runners_.push_back(me);
  --loops_;
  me->suspend(); // pick_next() counts it among the loops again
  return true;
}

void worker::execute(runnable_ptr r) noexcept {
  const auto n = runs() + 1;
  runs_.store(n, std::memory_order_relaxed);
  beat();
  set_current(r.get());
  if (n % timed_runs == 0) {
    const auto start = clock::now();
    r->run();
    const auto ns = static_cast<std::uint64_t>(
        std::chrono::nanoseconds(clock::now() - start).count());
    const std::uint64_t smoothed
        = (run_ns_.load(std::memory_order_relaxed) * std::uint64_t{7}
           + std::min<std::uint64_t>(ns, 1'000'000'000))
          / 8;
    run_ns_.store(static_cast<std::uint32_t>(smoothed),
                  std::memory_order_relaxed);
  } else {
    r->run();
  }
  set_current(nullptr);
}

void worker::execute_on_own_fiber(runnable_ptr r, std::size_t stack) {
  ++loops_;
  fibers_.fetch_add(1, std::memory_order_relaxed);
  pooled_stack stacks(stack);
  const auto mark = std::make_shared<stack_mark>();
  // The runner that comes here parks: two loops are going.
  fibers::fiber(fibers::launch::post, std::allocator_arg, stacks,
                [this, mark, r = std::move(r)]() mutable {
                  go_on(*mark);
                  execute(std::move(r));
                  pool_.pause(); // nobody else might come to it
                  --loops_;
                  if (fibers_.fetch_sub(1, std::memory_order_relaxed) == 1)
                    fibers::context::active()->schedule(main_);
                })
      .detach();
  *mark = stack_mark::of_last_allocated();
}

bool worker::has_work() const noexcept {
  if (waiting() > 0)
    return true;
  if (!is_taking_work())
    return false;
  for (const auto& other : pool_.workers)
    if (other.get() != this && other->waiting() > 0
        && (invited_.load(std::memory_order_relaxed) || other->has_surplus()
            || !other->is_running()))
      return true;
  return false;
}

runnable_ptr worker::next() noexcept {
  if (inbox_.size() > 0) {
    run_list came;
    {
      const std::lock_guard lock(inbox_lock_);
      came.append(inbox_);
    }
    own_.lock_own();
    queue_.append(came);
    own_.unlock_own();
  }
  if (queue_.size() == 0 && (!is_taking_work() || !steal())) {
    if (is_taking_work())
      invited_.store(false, std::memory_order_relaxed);
    return nullptr;
  }
  own_.lock_own();
  runnable_ptr r = choose_ ? queue_.pop_at(choose_(queue_.size()))
                           : queue_.pop();
  own_.unlock_own();
  return r;
}

bool worker::reserve_block() noexcept {
  if (pool_.blocked.fetch_add(1, std::memory_order_relaxed)
      < pool_.config.max_blocked) {
    if (loops_ > 1 || !idle_runners_.empty())
      return true;
    try {
      add_runner(); // somebody must run the rest meanwhile
      return true;
    } catch (...) { // no memory, or no mapping, for one more stack
    }
  }
  pool_.blocked.fetch_sub(1, std::memory_order_relaxed);
  return false;
}

void worker::cancel_block() noexcept {
  pool_.blocked.fetch_sub(1, std::memory_order_relaxed);
}

} // namespace esp::sched
