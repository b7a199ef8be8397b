// A lock for a few instructions: never held over a call that may block, wait
// or run users' code. Fibers and plain threads may both take it.

#pragma once

#include <atomic>

namespace esp {

class spinlock {
public:
  void lock() noexcept {
    while (taken_.exchange(true, std::memory_order_acquire)) {
      while (taken_.load(std::memory_order_relaxed))
        __builtin_ia32_pause();
    }
  }
  bool try_lock() noexcept {
    return !taken_.exchange(true, std::memory_order_acquire);
  }
  void unlock() noexcept { taken_.store(false, std::memory_order_release); }

private:
  std::atomic<bool> taken_{false};
};

} // namespace esp
