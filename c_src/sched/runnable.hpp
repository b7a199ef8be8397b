// Whatever a worker can run: to this room, a thing with a run() and a count
// of references. The node room makes processes of it.

#pragma once

#include <boost/intrusive_ptr.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace esp::sched {

class station;

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
  friend class run_list;
  friend class station;
  mutable std::atomic<std::uint32_t> references_{0};
  runnable* next_ = nullptr;
  // The worker in whose queues it is, if in any, and that runs it; null until it
  // is scheduled for the first time.
  std::atomic<station*> owner_{nullptr};
};

using runnable_ptr = boost::intrusive_ptr<runnable>;

// First in, first out. Holds one reference to each member. No lock of its own,
// but anybody may look at its size.
class run_list {
public:
  run_list() = default;
  run_list(const run_list&) = delete;
  run_list& operator=(const run_list&) = delete;
  ~run_list() {
    while (pop()) {
    }
  }

  void push(runnable_ptr r) noexcept {
    runnable* const raw = r.detach();
    raw->next_ = nullptr;
    (tail_ != nullptr ? tail_->next_ : head_) = raw;
    tail_ = raw;
    add_to_size(1);
  }
  void append(run_list& o) noexcept {
    if (o.head_ == nullptr)
      return;
    (tail_ != nullptr ? tail_->next_ : head_) = o.head_;
    tail_ = o.tail_;
    add_to_size(o.size());
    o.head_ = o.tail_ = nullptr;
    o.size_.store(0, std::memory_order_relaxed);
  }
  runnable_ptr pop() noexcept {
    runnable* const raw = head_;
    if (raw != nullptr) {
      head_ = raw->next_;
      if (head_ == nullptr)
        tail_ = nullptr;
      add_to_size(static_cast<std::size_t>(-1));
    }
    return {raw, false};
  }
  // The one at this place; null if there are fewer.
  runnable_ptr pop_at(std::size_t place) noexcept {
    runnable* before = nullptr;
    runnable* raw = head_;
    for (; raw != nullptr && place > 0; --place)
      before = std::exchange(raw, raw->next_);
    if (raw == nullptr)
      return nullptr;
    (before != nullptr ? before->next_ : head_) = raw->next_;
    if (tail_ == raw)
      tail_ = before;
    add_to_size(static_cast<std::size_t>(-1));
    return {raw, false};
  }

  // A look without a lock: may be stale, never torn.
  std::size_t size() const noexcept {
    return size_.load(std::memory_order_relaxed);
  }

private:
  void add_to_size(std::size_t n) noexcept {
    size_.store(size() + n, std::memory_order_relaxed);
  }

  std::atomic<std::size_t> size_{0};
  runnable* head_ = nullptr;
  runnable* tail_ = nullptr;
};

} // namespace esp::sched
