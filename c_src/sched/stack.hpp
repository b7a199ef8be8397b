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
