#include "term/block.hpp"

#include <limits>
#include <stdexcept>

namespace esp::detail {

block* make_block(std::size_t size) {
  if (size > std::numeric_limits<std::uint32_t>::max()) {
    throw std::length_error("a term of 4 GiB or more");
  }
  void* memory = ::operator new(sizeof(block) + size);
  auto* b = new (memory) block;
  b->size = static_cast<std::uint32_t>(size);
  return b;
}

void retain(block* b) noexcept {
  b->count.fetch_add(1, std::memory_order_relaxed);
}

void release(block* b) noexcept {
  if (b->count.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    b->~block();
    ::operator delete(b);
  }
}

} // namespace esp::detail
