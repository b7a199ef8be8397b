#include "term/slicer.hpp"

#include "base/bytes.hpp"
#include "term/inflate.hpp"
#include "term/rewrite.hpp"
#include "term/tags.hpp"

#include <cstring>

namespace esp::etf {
namespace {

detail::block* copy_block(std::span<const std::byte> bytes) {
  detail::block* b = detail::make_block(bytes.size());
  if (!bytes.empty()) {
    std::memcpy(b->data(), bytes.data(), bytes.size());
  }
  return b;
}

} // namespace

slicer::slicer(std::span<const std::byte> body, const limits& caps,
               std::span<const atom> cached)
    : block_(copy_block(body)),
      size_(body.size()),
      caps_(caps),
      cached_(cached.begin(), cached.end()) {}

result<term> slicer::next() {
  auto s = scan(rest(), caps_, cached_.size());
  if (!s) {
    return s.error();
  }
  const std::byte* from = block_.get()->data() + at_;
  at_ += s->size;
  return adopt_scanned(block_.get(), from, *s, caps_, cached_);
}

result<term> adopt_scanned(detail::block* owner, const std::byte* data,
                           const scanned& s, const limits& caps,
                           std::span<const atom> cached) {
  if (!s.needs_rewrite) {
    detail::retain(owner);
    return term::adopt(owner, data, static_cast<std::uint32_t>(s.size));
  }
  const auto copy = normalize({data, s.size}, cached);
  // Two keys of a map may be one atom, once as text and once as a reference.
  auto again = scan(copy, caps);
  if (!again) {
    return again.error();
  }
  return term::copy_of(copy);
}

result<term> decode_external(std::span<const std::byte> external,
                             const limits& caps) {
  base::reader in(external);
  if (in.u8() != version_magic) {
    return {errc::malformed, "no 131 in front of a term"};
  }
  if (in.left() >= 5
      && base::load_be<std::uint8_t>(external.data() + 1) == tag::compressed) {
    auto plain = inflate(external.subspan(2), caps.max_inflated);
    if (!plain) {
      return plain.error();
    }
    auto s = scan(*plain, caps);
    if (!s) {
      return s.error();
    }
    slicer out(std::span<const std::byte>(*plain).first(s->size), caps);
    return out.next();
  }
  slicer out(in.rest(), caps);
  auto t = out.next();
  if (t && out.left() != 0) {
    return {errc::malformed, "bytes after a term"};
  }
  return t;
}

} // namespace esp::etf
