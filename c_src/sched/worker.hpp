// One worker: a thread, its run queue, its runner fibers and the Boost.Fiber
// algorithm that puts them in order. Internal to the room.

#pragma once

#include "sched/scheduler.hpp"
#include "sched/stack.hpp"

#include <boost/fiber/algo/algorithm.hpp>
#include <boost/fiber/context.hpp>
#include <boost/fiber/scheduler.hpp>

#include <atomic>
#include <condition_variable>
#include <ctime>
#include <mutex>
#include <thread>
#include <vector>

namespace esp::sched {

// What all workers of a scheduler share.
struct pool {
  options config;
  std::function<void()> pause = [] {}, overdue = [] {};
  // Who wakes while the watchdog rests sets it to work again.
  std::atomic<bool> is_watched{true};
  std::function<void()> watch = [] {};
  std::vector<std::unique_ptr<class worker>> workers; // fixed once started
  std::atomic<unsigned> stand_ins_wanted{0};
  std::atomic<std::size_t> blocked{0};
};

class worker : public station {
public:
  worker(pool& p, bool is_stand_in);

  void start();
  void stop() noexcept; // asks
  // Waits. The others' queues are looked at until the thread ends, so all are
  // joined before any is destroyed.
  void join();

  // Any thread. Puts `r`, which is in no queue, into this one's.
  void schedule(runnable_ptr r) noexcept;
  void notify() noexcept;
  // Come and take what waits with the others, whatever it seems to cost.
  void invite() noexcept;
  // Runnables that wait for it.
  std::size_t waiting() const noexcept {
    return queue_.size() + inbox_.size();
  }
  // Nothing that waits here comes to its turn soon: it has worked at one thing
  // for long.
  bool is_held_up() const noexcept {
    return held_up_.load(std::memory_order_relaxed);
  }
  void set_held_up(bool so) noexcept {
    held_up_.store(so, std::memory_order_relaxed);
  }
  // Who runs `r`, which is in no queue; null if nobody has.
  static worker* of(const runnable& r) noexcept {
    return static_cast<worker*>(owner(r));
  }
  // It is this one from here on. By a worker for itself, or by who is none.
  void adopt(runnable& r) noexcept;
  // The same, if that costs no more than a lock: its worker sleeps.
  bool adopt_from_sleeper(runnable& r) noexcept;
  bool is_asleep() const noexcept { return asleep_.load(); }
  bool is_stand_in() const noexcept { return is_stand_in_; }
  // A stand-in takes work only while it is wanted.
  void want(bool wanted) noexcept;
  bool is_taking_work() const noexcept {
    return !is_stand_in_ || wanted_.load(std::memory_order_relaxed);
  }

  // The watchdog's view: signs of life so far, and what is running now.
  std::uint64_t beats() const noexcept {
    return beats_.load(std::memory_order_relaxed);
  }
  runnable_ptr current() noexcept;
  std::uint64_t runs() const noexcept {
    return runs_.load(std::memory_order_relaxed);
  }
  // What the kernel says of its thread; 0 before it runs and after its end.
  std::chrono::nanoseconds cpu_time() const noexcept;
  std::size_t fiber_count() const noexcept {
    return fibers_.load(std::memory_order_relaxed);
  }
  // What waits here is worth the time it takes to wake another worker.
  bool has_surplus() const noexcept;

  // The rest is for the worker's own thread.
  static worker* here() noexcept { // null on other threads
    return static_cast<worker*>(detail::here);
  }
  bool is_running() const noexcept {
    return current_.load(std::memory_order_relaxed) != nullptr;
  }
  bool has_room_to_wait() const noexcept {
    return waiting() > 0
           && pool_.blocked.load(std::memory_order_relaxed)
                  < pool_.config.max_blocked / 8;
  }
  bool reserve_block() noexcept;
  void cancel_block() noexcept;
  template <class Suspend>
  void block(Suspend&& suspend) {
    runnable* const mine = current_.load(std::memory_order_relaxed);
    const stack_mark stack = stack_;
    set_current(nullptr);
    --loops_;
    suspend();
    ++loops_;
    set_current(mine);
    beat(); // it has not run since its last one
    go_on(stack);
    pool_.blocked.fetch_sub(1, std::memory_order_relaxed);
  }

private:
  class algorithm;

  void main();
  void runner(const stack_mark& mark);
  void go_on(const stack_mark& mark) noexcept {
    stack_ = mark;
    mark.enter();
  }
  void add_runner();
  bool park(); // false: the runner should end
  void execute(runnable_ptr r) noexcept;
  void execute_on_own_fiber(runnable_ptr r, std::size_t stack);
  runnable_ptr next() noexcept;
  bool steal() noexcept;
  bool has_work() const noexcept;
  void set_current(runnable* r) noexcept;

  pool& pool_;
  const bool is_stand_in_;
  std::thread thread_;
  run_list queue_; // under own_
  spinlock inbox_lock_;
  run_list inbox_; // from other threads; under inbox_lock_

  // Shared with other threads.
  std::atomic<bool> wanted_{false}, stopping_{false}, asleep_{false};
  std::atomic<bool> invited_{false}, held_up_{false};
  std::mutex sleep_mutex_;
  std::condition_variable sleep_;
  std::atomic<std::uint64_t> runs_{0};
  std::atomic<std::size_t> fibers_{0};
  std::atomic<clockid_t> cpu_clock_{0}; // 0: its thread does not run
  std::atomic<std::uint32_t> run_ns_{0}; // of one run(), smoothed
  std::atomic<runnable*> current_{nullptr}; // changes under own_

  // This thread's own.
  algorithm* algorithm_ = nullptr;
  boost::fibers::context* main_ = nullptr;
  std::vector<boost::fibers::context*> idle_runners_;
  stack_mark stack_;      // of what runs
  std::size_t loops_ = 0; // runners neither idle nor blocked
};

} // namespace esp::sched
