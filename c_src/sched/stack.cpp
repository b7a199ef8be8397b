#include "sched/stack.hpp"

#include "base/spinlock.hpp"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <map>
#include <mutex>
#include <new>
#include <vector>

#ifdef ESP_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace esp::sched {

namespace {

constexpr std::size_t signal_stack_size = 64u << 10;
constexpr std::size_t kept_of_each_size = 256;

std::size_t page_size() noexcept {
  static const auto n = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return n;
}

#ifdef ESP_ADDRESS_SANITIZER
thread_local stack_mark last_allocated;
#endif

// Never destroyed: fibers of detached threads may outlive static objects.
struct kept_stacks {
  std::mutex mutex;
  std::map<std::size_t, std::vector<void*>> free; // by size, lowest address
};
kept_stacks& kept() {
  static auto* const k = new kept_stacks;
  return *k;
}

} // namespace

boost::context::stack_context pooled_stack::allocate() {
  const std::size_t page = page_size();
  const std::size_t size = (size_ + page - 1) / page * page + page;
  void* low = nullptr;
  {
    const std::lock_guard lock(kept().mutex);
    if (auto it = kept().free.find(size);
        it != kept().free.end() && !it->second.empty()) {
      low = it->second.back();
      it->second.pop_back();
    }
  }
  if (low == nullptr) {
    low =
        ::mmap(nullptr, size, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    if (low == MAP_FAILED)
      throw std::bad_alloc();
    if (::mprotect(low, page, PROT_NONE) != 0) {
      ::munmap(low, size);
      throw std::bad_alloc();
    }
  }
  boost::context::stack_context s;
  s.size = size;
  s.sp = static_cast<char*>(low) + size;
#ifdef ESP_ADDRESS_SANITIZER
  last_allocated.low_ = static_cast<char*>(low) + page;
  last_allocated.size_ = size - page;
  ASAN_UNPOISON_MEMORY_REGION(last_allocated.low_, last_allocated.size_);
#endif
  return s;
}

#ifdef ESP_ADDRESS_SANITIZER
stack_mark stack_mark::of_last_allocated() noexcept {
  return last_allocated;
}

stack_mark stack_mark::of_thread() noexcept {
  stack_mark m;
  pthread_attr_t a;
  void* low = nullptr;
  if (::pthread_getattr_np(::pthread_self(), &a) == 0) {
    ::pthread_attr_getstack(&a, &low, &m.size_);
    ::pthread_attr_destroy(&a);
  }
  m.low_ = low;
  return m;
}

// As of a switch that is over: only the bounds are news.
void stack_mark::enter() const noexcept {
  if (low_ == nullptr)
    return;
  const void* old_low = nullptr;
  std::size_t old_size = 0;
  __sanitizer_start_switch_fiber(nullptr, low_, size_);
  __sanitizer_finish_switch_fiber(nullptr, &old_low, &old_size);
}
#else
stack_mark stack_mark::of_last_allocated() noexcept {
  return {};
}
stack_mark stack_mark::of_thread() noexcept {
  return {};
}
#endif

void pooled_stack::deallocate(boost::context::stack_context& s) noexcept {
  void* const low = static_cast<char*>(s.sp) - s.size;
  try {
    const std::lock_guard lock(kept().mutex);
    auto& list = kept().free[s.size];
    if (list.size() < kept_of_each_size) {
      list.push_back(low);
      return;
    }
  } catch (const std::bad_alloc&) {
  }
  ::munmap(low, s.size);
}

signal_stack::signal_stack() : memory_(new std::byte[signal_stack_size]) {
  stack_t s{};
  s.ss_sp = memory_.get();
  s.ss_size = signal_stack_size;
  ::sigaltstack(&s, nullptr);
}

signal_stack::~signal_stack() {
  stack_t s{};
  s.ss_flags = SS_DISABLE;
  ::sigaltstack(&s, nullptr);
}

} // namespace esp::sched
