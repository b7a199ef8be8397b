// Stacks of fibers: reserved, touched lazily, with a guard page below, and
// kept for the next fiber of that size. And the second stack of each thread,
// on which the handler of an overflow can still run.

#pragma once

#include <boost/context/stack_context.hpp>

#include <cstddef>
#include <memory>

namespace esp::sched {

// A Boost.Context stack allocator. Thread safe.
class pooled_stack {
public:
  explicit pooled_stack(std::size_t size) noexcept : size_(size) {}

  boost::context::stack_context allocate(); // throws std::bad_alloc
  void deallocate(boost::context::stack_context& s) noexcept;

private:
  std::size_t size_;
};

#if defined(__SANITIZE_ADDRESS__)
#define ESP_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ESP_ADDRESS_SANITIZER 1
#endif
#endif

// Where a stack is. AddressSanitizer has to be told which one a thread is on:
// what an exception unwinds on a stack that it does not know stays poisoned,
// and later frames there are errors to it. Without it all this is nothing.
class stack_mark {
public:
  // Of the stack that this thread has allocated last, of its own first one.
  static stack_mark of_last_allocated() noexcept;
  static stack_mark of_thread() noexcept;

  // This thread goes on there.
#ifdef ESP_ADDRESS_SANITIZER
  void enter() const noexcept;

private:
  friend class pooled_stack;
  const void* low_ = nullptr;
  std::size_t size_ = 0;
#else
  void enter() const noexcept {}
#endif
};

// sigaltstack() for the calling thread as long as this lives.
class signal_stack {
public:
  signal_stack();
  ~signal_stack();
  signal_stack(const signal_stack&) = delete;
  signal_stack& operator=(const signal_stack&) = delete;

private:
  std::unique_ptr<std::byte[]> memory_;
};

} // namespace esp::sched
