// Where messages come from: each thread keeps some of those it has let go of,
// the last one first, so that a hop neither calls malloc nor leaves the cache.
// Threads that only let go (workers, of what the I/O thread has read) hand
// them back by the batch. What is more than that is malloc's again.

#include "base/spinlock.hpp"
#include "node/message.hpp"

#include <cstdlib>
#include <mutex>
#include <new>
#include <utility>

namespace esp::node {

#ifndef ESP_SANITIZED // which would not see that one is used after its end

namespace {

using chain = message_cache::chain;

// Batches between threads.
class depot {
public:
  bool put(chain c) noexcept {
    const std::lock_guard guard(lock_);
    if (count_ == max_batches)
      return false;
    batches_[count_++] = c;
    return true;
  }
  chain take() noexcept {
    const std::lock_guard guard(lock_);
    return count_ > 0 ? batches_[--count_] : chain();
  }

private:
  static constexpr unsigned max_batches = 16;
  spinlock lock_;
  unsigned count_ = 0;
  chain batches_[max_batches];
};
constinit depot between_threads;

void let_go(chain c) noexcept {
  while (c.size > 0)
    std::free(c.pop());
}

// Two chains, so that a thread at the edge of a batch does not go to the depot
// with each message.
constinit thread_local chain far;

struct at_thread_end {
  ~at_thread_end() {
    let_go(std::exchange(message_cache::near, {}));
    let_go(std::exchange(far, {}));
  }
};

void see_to_the_end() noexcept {
  thread_local at_thread_end a;
  (void)a;
}

} // namespace

constinit thread_local chain message_cache::near;

void* message_cache::more(std::size_t size) {
  near = far.size > 0 ? std::exchange(far, {}) : between_threads.take();
  if (near.size > 0) {
    see_to_the_end();
    return near.pop();
  }
  void* const p = std::malloc(size);
  if (p == nullptr)
    throw std::bad_alloc();
  return p;
}

void message_cache::hand_on(void* p) noexcept {
  if (near.size == 0)
    see_to_the_end();
  if (near.size == batch) {
    if (far.size > 0 && !between_threads.put(far))
      let_go(far);
    far = std::exchange(near, {});
  }
  near.push(p);
}

#endif

} // namespace esp::node
