// A mutex that belongs to one thread and costs it no atomic instruction: a store
// and a load. Whoever else locks it pays for both, with a barrier on all threads
// of this OS process (membarrier(2), 1 to 2 us). For what its owner does all the
// time and others hardly ever. Held for a few instructions, as a spinlock is.

#pragma once

#include "base/spinlock.hpp"

#include <atomic>

namespace esp {

class biased_mutex {
public:
  // By the thread that owns it, which is whoever alone calls these two.
  void lock_own() noexcept {
    for (;;) {
      held_.store(true, std::memory_order_relaxed);
      if (has_barrier) [[likely]]
        std::atomic_signal_fence(std::memory_order_seq_cst);
      else
        std::atomic_thread_fence(std::memory_order_seq_cst);
      if (!wanted_.load(std::memory_order_acquire)) [[likely]]
        return;
      let_others();
    }
  }
  void unlock_own() noexcept { held_.store(false, std::memory_order_release); }

  // By any other.
  void lock() noexcept;
  void unlock() noexcept;

private:
  void let_others() noexcept;
  static const bool has_barrier; // the kernel has it and lets us

  std::atomic<bool> held_{false};   // by its owner
  std::atomic<bool> wanted_{false}; // or had, by another
  spinlock others_;
};

} // namespace esp
