// The refcounted bytes that terms share. A block is made with one count, is
// filled before anybody else sees it, and never changes after.

#pragma once

#include "esp/term.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

namespace esp::detail {

struct block {
  std::atomic<std::uint32_t> count{1};
  std::uint32_t size = 0;

  std::byte* data() noexcept { return reinterpret_cast<std::byte*>(this + 1); }
};

// `size` bytes, not yet written; the caller owns the one count. Sizes of
// 4 GiB and more throw std::length_error.
block* make_block(std::size_t size);

// Owns one count for the time of a scope, so that a throw loses nothing.
class block_holder {
public:
  explicit block_holder(block* b) noexcept : b_(b) {}
  block_holder(const block_holder&) = delete;
  block_holder& operator=(const block_holder&) = delete;
  ~block_holder() {
    if (b_ != nullptr) {
      release(b_);
    }
  }
  block* get() const noexcept { return b_; }
  block* give() noexcept {
    block* b = b_;
    b_ = nullptr;
    return b;
  }

private:
  block* b_;
};

} // namespace esp::detail
