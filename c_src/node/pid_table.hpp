// Numbers to processes. A number is a counter's value, given out once; its
// low bits are the place in the table, so looking one up is one step and a
// stale number finds nothing.

#pragma once

#include "base/spinlock.hpp"
#include "node/process.hpp"

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace esp::node {

class pid_table {
public:
  static constexpr std::size_t max_processes = 1u << 22;

  // The next free number, or 0 if the table is full. The first is 1.
  std::uint64_t reserve() {
    const std::lock_guard guard(counter_);
    if (size_.load(std::memory_order_relaxed) >= max_processes - 1)
      return 0;
    for (;;) {
      const std::uint64_t n = ++last_;
      slot& s = make_page(n)[n % page_size];
      const std::lock_guard page(locks_[lock_of(n)]);
      if (s.used)
        continue; // an old process still lives there
      s.used = true;
      size_.fetch_add(1, std::memory_order_relaxed);
      return n;
    }
  }
  void insert(const process_ptr& p) {
    slot& s = page_of(p->number())[p->number() % page_size];
    const std::lock_guard guard(locks_[lock_of(p->number())]);
    s.p = p;
  }
  // A number that was reserved and not used.
  void release(std::uint64_t n) noexcept {
    const std::lock_guard guard(locks_[lock_of(n)]);
    page_of(n)[n % page_size].used = false;
    size_.fetch_sub(1, std::memory_order_relaxed);
  }
  void erase(std::uint64_t n) noexcept {
    process_ptr last; // let go outside the lock
    slot* const page = page_of(n);
    if (page == nullptr)
      return;
    const std::lock_guard guard(locks_[lock_of(n)]);
    slot& s = page[n % page_size];
    if (s.p && s.p->number() == n) {
      last.swap(s.p);
      s.used = false;
      size_.fetch_sub(1, std::memory_order_relaxed);
    }
  }
  process_ptr find(std::uint64_t n) const noexcept {
    slot* const page = page_of(n);
    if (page == nullptr)
      return nullptr;
    const std::lock_guard guard(locks_[lock_of(n)]);
    const slot& s = page[n % page_size];
    return s.p && s.p->number() == n ? s.p : nullptr;
  }
  std::size_t size() const noexcept {
    return size_.load(std::memory_order_relaxed);
  }
  std::vector<process_ptr> all() const {
    std::vector<process_ptr> found;
    found.reserve(size());
    for (std::size_t i = 0; i < pages; ++i)
      if (slot* const page = pages_[i].load(std::memory_order_acquire))
        for (std::size_t j = 0; j < page_size; ++j) {
          const std::lock_guard guard(locks_[j % locks]);
          if (page[j].p)
            found.push_back(page[j].p);
        }
    return found;
  }

  pid_table() = default;
  pid_table(const pid_table&) = delete;
  pid_table& operator=(const pid_table&) = delete;
  ~pid_table() {
    for (auto& p : pages_)
      delete[] p.load();
  }

private:
  struct slot {
    process_ptr p;
    bool used = false;
  };
  static constexpr std::size_t page_size = 4'096;
  static constexpr std::size_t pages = max_processes / page_size;
  static constexpr std::size_t locks = 64;

  static std::size_t lock_of(std::uint64_t n) noexcept { return n % locks; }
  static std::size_t index_of(std::uint64_t n) noexcept {
    return n / page_size % pages;
  }
  slot* page_of(std::uint64_t n) const noexcept {
    return pages_[index_of(n)].load(std::memory_order_acquire);
  }
  slot* make_page(std::uint64_t n) {
    auto& page = pages_[index_of(n)];
    if (page.load(std::memory_order_relaxed) == nullptr)
      page.store(new slot[page_size], std::memory_order_release);
    return page.load(std::memory_order_relaxed);
  }

  mutable std::array<spinlock, locks> locks_;
  std::array<std::atomic<slot*>, pages> pages_{};
  spinlock counter_;
  std::uint64_t last_ = 0;
  std::atomic<std::size_t> size_{0};
};

} // namespace esp::node
