#include "base/biased_mutex.hpp"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace esp {

namespace {

long membarrier(int command) noexcept {
  return ::syscall(__NR_membarrier, command, 0, 0);
}

} // namespace

// False until it is initialised, which is only slower.
const bool biased_mutex::has_barrier
    = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0;

// Either the owner's load comes behind the barrier and sees that it is wanted,
// or its store before that load is seen here.
void biased_mutex::lock() noexcept {
  others_.lock();
  wanted_.store(true, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (has_barrier)
    (void)membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
  while (held_.load(std::memory_order_acquire))
    __builtin_ia32_pause();
}

void biased_mutex::unlock() noexcept {
  wanted_.store(false, std::memory_order_release);
  others_.unlock();
}

void biased_mutex::let_others() noexcept {
  held_.store(false, std::memory_order_release);
  while (wanted_.load(std::memory_order_relaxed))
    __builtin_ia32_pause();
}

} // namespace esp
