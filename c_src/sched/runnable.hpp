// Whatever a worker can run: to this room, a thing with a run() and a count
// of references. The node room makes processes of it.

#pragma once

#include "base/spinlock.hpp"

#include <boost/intrusive_ptr.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>

namespace esp::sched {

class runnable {
public:
  runnable() = default;
  runnable(const runnable&) = delete;
  runnable& operator=(const runnable&) = delete;

  // Called on a runner fiber, by one worker at a time: whoever schedules a
  // runnable sees to it that it is in one run queue at most, and in none
  // while it runs. May block the fiber; must not throw.
  virtual void run() noexcept = 0;

  // Stack that run() needs, in bytes; 0 is the runners' default.
  virtual std::size_t stack_size() const noexcept { return 0; }

  // From the watchdog's thread, while run() has not come to a beat or a block
  // for `ms` milliseconds: once past long_schedule, then at each look from
  // takeover on. True says that nobody waits for the result any more: the
  // thread counts as abandoned.
  virtual bool on_long_run(std::uint32_t ms) noexcept {
    (void)ms;
    return false;
  }

  friend void intrusive_ptr_add_ref(const runnable* r) noexcept {
    r->references_.fetch_add(1, std::memory_order_relaxed);
  }
  friend void intrusive_ptr_release(const runnable* r) noexcept {
    if (r->references_.fetch_sub(1, std::memory_order_acq_rel) == 1)
      delete r;
  }

protected:
  virtual ~runnable() = default;

private:
  friend class run_queue;
  mutable std::atomic<std::uint32_t> references_{0};
  runnable* next_ = nullptr;
};

using runnable_ptr = boost::intrusive_ptr<runnable>;

// First in, first out; any thread may push and take. Holds one reference to
// each member.
class run_queue {
public:
  run_queue() = default;
  run_queue(const run_queue&) = delete;
  run_queue& operator=(const run_queue&) = delete;
  ~run_queue() {
    while (pop()) {
    }
  }

  // The number of members after the push.
  std::size_t push(runnable_ptr r) noexcept {
    runnable* const raw = r.detach();
    raw->next_ = nullptr;
    lock_.lock();
    (tail_ != nullptr ? tail_->next_ : head_) = raw;
    tail_ = raw;
    const std::size_t n = size_.load(std::memory_order_relaxed) + 1;
    size_.store(n, std::memory_order_relaxed);
    lock_.unlock();
    return n;
  }

  runnable_ptr pop() noexcept {
    if (size() == 0)
      return nullptr;
    lock_.lock();
    runnable* const raw = head_;
    if (raw != nullptr) {
      head_ = raw->next_;
      if (head_ == nullptr)
        tail_ = nullptr;
      size_.store(size_.load(std::memory_order_relaxed) - 1,
                  std::memory_order_relaxed);
    }
    lock_.unlock();
    return {raw, false};
  }

  // The one at this place; null if there are fewer.
  runnable_ptr pop_at(std::size_t place) noexcept {
    const std::lock_guard guard(lock_);
    runnable* before = nullptr;
    runnable* raw = head_;
    for (; raw != nullptr && place > 0; --place)
      before = std::exchange(raw, raw->next_);
    if (raw == nullptr)
      return nullptr;
    (before != nullptr ? before->next_ : head_) = raw->next_;
    if (tail_ == raw)
      tail_ = before;
    size_.store(size_.load(std::memory_order_relaxed) - 1,
                std::memory_order_relaxed);
    return {raw, false};
  }

  // A look without the lock: may be stale, never torn.
  std::size_t size() const noexcept {
    return size_.load(std::memory_order_relaxed);
  }

private:
  spinlock lock_;
  std::atomic<std::size_t> size_{0};
  runnable* head_ = nullptr;
  runnable* tail_ = nullptr;
};

} // namespace esp::sched
