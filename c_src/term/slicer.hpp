// Terms out of a frame: the frame's body is copied once, and every term taken
// out of it is a slice of that one block.

#pragma once

#include "esp/error.hpp"
#include "esp/term.hpp"

#include "term/block.hpp"
#include "term/scan.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace esp::etf {

class slicer {
public:
  // `cached` are the atoms that the frame's header brought, if any.
  explicit slicer(std::span<const std::byte> body, const limits& caps = {},
                  std::span<const atom> cached = {});

  // The term at the front, which then is behind. Errors as scan()'s; after
  // one, the rest means nothing.
  result<term> next();

  std::size_t left() const noexcept { return size_ - at_; }
  std::span<const std::byte> rest() const noexcept {
    return {block_.get()->data() + at_, left()};
  }
  void skip(std::size_t n) noexcept { at_ += n < left() ? n : left(); }

private:
  detail::block_holder block_;
  std::size_t size_;
  std::size_t at_ = 0;
  limits caps_;
  std::vector<atom> cached_;
};

// A slice of `owner`, which keeps its own count, over bytes that scan() found
// to be `s`. What needs_rewrite is rewritten and walked again.
result<term> adopt_scanned(detail::block* owner, const std::byte* data,
                           const scanned& s, const limits& caps = {},
                           std::span<const atom> cached = {});

// One term in the external format with its leading 131, compressed or not;
// bytes after it are an error.
result<term> decode_external(std::span<const std::byte> external,
                             const limits& caps);

} // namespace esp::etf
