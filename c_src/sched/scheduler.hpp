// Worker threads that run runnables on fibers. A runnable holds a fiber only
// while its run() lasts: a runner fiber executes one after the other; if one
// blocks, that fiber stays with it and the worker goes on with another from
// its pool. Nothing in mid-run moves between threads; what moves to an idle
// worker is a runnable that waits in a queue.

#pragma once

#include "base/biased_mutex.hpp"
#include "sched/runnable.hpp"

#include <boost/fiber/waker.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace esp::sched {

struct options {
  unsigned workers = 0;               // 0: one for each core
  std::size_t stack_size = 64u << 10; // of a runner fiber, reserved
  std::size_t max_blocked = 20'000;   // fibers blocked at once, in all
  std::chrono::milliseconds long_schedule{100};
  std::chrono::milliseconds takeover{1'000};
  unsigned max_abandoned = 4;
  // For tests that replay: which of n waiting runnables is next, 0 to n - 1.
  // With it there is one worker and no watchdog, all that happens inside run()
  // happens on one thread, and the same answers give the same run.
  std::function<std::size_t(std::size_t n)> choose = nullptr;
};

struct gauges {
  unsigned workers = 0;      // threads, the stand-ins of stuck ones included
  unsigned idle = 0;         // of them, asleep
  unsigned stuck = 0;        // of them, in one task for longer than takeover
  std::size_t run_queue = 0; // runnables waiting
  std::size_t fibers = 0;    // runner fibers, of which
  std::size_t blocked = 0;   // are held by a blocked runnable
  std::uint64_t runs = 0;    // calls of run()
};

struct worker_gauges {
  bool is_stand_in = false; // waits to take the place of a stuck one
  bool is_asleep = false;
  std::size_t run_queue = 0;
  std::chrono::nanoseconds cpu_time{0}; // of its thread
};

class scheduler {
public:
  explicit scheduler(options o);
  // Lets no new run() begin and waits for those going on: wake what is
  // blocked first. Stuck threads are waited for, too.
  ~scheduler();
  scheduler(const scheduler&) = delete;
  scheduler& operator=(const scheduler&) = delete;

  // Any thread. Puts `r` into a run queue: the caller's if it is a worker.
  void schedule(runnable_ptr r);

  gauges read() const;
  std::vector<worker_gauges> read_workers() const; // stand-ins last
  const options& config() const noexcept;

  // Runs once on each worker, after a batch of runs and before it sleeps:
  // where output that was gathered meanwhile is sent. Set before the first
  // schedule().
  void on_pause(std::function<void()> f);
  // On the watchdog's thread, every few milliseconds while a worker is at
  // work: what a batch gathers is not to wait for a long task, or for a worker
  // that never comes to rest. Set before the first schedule().
  void on_overdue(std::function<void()> f);
  // On the watchdog's thread, when more than `max_abandoned` threads run what
  // nobody waits for: there is no way to get them back but to end the OS
  // process. Set before the first schedule().
  void on_abandoned(std::function<void(std::vector<runnable_ptr>)> f);

  class impl;

private:
  std::unique_ptr<impl> impl_;
};

// A worker as those see it who run on it: a few instructions each, for they are
// used between any two data.
class station {
public:
  station(const station&) = delete;
  station& operator=(const station&) = delete;

  // A sign of life between two pieces of work of one run(): long_schedule and
  // takeover count from the last one.
  void beat() noexcept {
    beats_.store(beats_.load(std::memory_order_relaxed) + 1,
                 std::memory_order_relaxed);
  }
  // Fibers or timers of this worker wait for the running one to make room: time
  // to leave run() early.
  bool should_yield() const noexcept {
    if (choose_) [[unlikely]]
      return choose_(4) == 0;
    return ready_fibers_ > 0 || notified_.load(std::memory_order_relaxed);
  }

  // Held while what is this worker's alone is looked at: its queue, and what
  // only those may touch who run where a runnable does. True if it owns `r`:
  // until this ends, that is in its queues if in any, and runs here or nowhere.
  class own_lock {
  public:
    own_lock(station& here, const runnable& r) noexcept
        : here_(here) {
      here_.own_.lock_own();
      is_own_ = owner(r) == &here_;
    }
    own_lock(const own_lock&) = delete;
    own_lock& operator=(const own_lock&) = delete;
    ~own_lock() { here_.own_.unlock_own(); }
    explicit operator bool() const noexcept { return is_own_; }

  private:
    station& here_;
    bool is_own_;
  };

protected:
  station() = default;
  ~station() = default;

  static station* owner(const runnable& r) noexcept {
    return r.owner_.load(std::memory_order_acquire);
  }
  // Under the lock of its former owner, or while that sleeps.
  void own(runnable& r) noexcept {
    r.owner_.store(this, std::memory_order_release);
  }

  std::atomic<std::uint64_t> beats_{0};
  std::atomic<bool> notified_{false};
  std::size_t ready_fibers_ = 0; // the worker's own
  std::function<std::size_t(std::size_t)> choose_; // options::choose
  biased_mutex own_;
};

// What a runnable may ask of the worker it is running on. Call these from
// inside run() only.
namespace detail {
extern constinit thread_local station* here; // null: no worker's thread
}

namespace this_worker {

// True on a worker's thread, inside a run().
bool is_running() noexcept;
// Stays the same as long as the run() lasts.
inline station& here() noexcept {
  return *detail::here;
}
// Runnables wait for this worker, and few fibers are blocked: one that could go
// on may wait for them, without taking the room of those that have to wait.
bool has_room_to_wait() noexcept;

} // namespace this_worker

// One waiting fiber. The waiter calls prepare(), makes itself known under the
// lock that its wakers use, drops that lock and waits; a wake() between
// prepare() and the wait is not lost. Wakers may be on any thread.
class parker {
public:
  // True if one more fiber may block; false is `system_limit`.
  [[nodiscard]] bool prepare() noexcept;
  void wait() noexcept;
  // False if the time came first.
  bool wait_until(std::chrono::steady_clock::time_point t) noexcept;
  // Ends a prepare() that is not followed by a wait.
  void cancel() noexcept;
  // Wakes the fiber that prepared last; later ones are harmless. The parker
  // must be alive: callers hold the lock that keeps it so.
  void wake() noexcept;

private:
  boost::fibers::waker waker_;
};

} // namespace esp::sched
