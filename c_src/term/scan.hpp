// The bounded walk over bytes in the external term format. It comes before
// everything else: libei's decoders and our own readers take no length, so
// they see only what this walk has accepted. It is iterative; the depth of a
// term costs heap, never stack.
//
// Two settings. The *verdict* is what OTP 25's binary_to_term/1 accepts on
// nonode@nohost, to the letter and without caps: etf_verdict and the property
// tests hold it against the real one. The *connection* is what may come from
// another node: the same, less what no real node sends (a closure whose
// creator is no pid, a reference without words, the VM's internal atoms, funs
// of more than 255 arguments), and more what newer ones do (native records of
// OTP 29), with caps.

#pragma once

#include "esp/error.hpp"
#include "esp/term.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace esp::etf {

struct limits {
  std::size_t max_depth = 10'000; // list tails do not count
  std::size_t max_inflated = std::size_t{64} << 20;
};

struct scanned {
  std::size_t size = 0;  // bytes of the term
  std::size_t depth = 0; // containers open at once, at most
  // Holds cache references, or an empty bit string that OTP 27 would refuse:
  // rewrite() it before it is kept.
  bool needs_rewrite = false;
};

// Measures the first term of `bytes`, which starts at a tag, with no 131 in
// front. Bytes after it are left alone. `cached` is how many atoms the frame's
// header brought: cache references below that are well formed. Errors:
// truncated, malformed, too_deep.
result<scanned> scan(std::span<const std::byte> bytes, const limits& caps = {},
                     std::size_t cached = 0);

// Would OTP 25's binary_to_term/1 return a term for `external`, which starts
// with 131? `atom_count` is how many atoms that node has: its decoder takes
// its own internal atom numbers from anybody. 8,744 is a node just booted.
bool verdict(std::span<const std::byte> external,
             std::size_t atom_count = 8'744);

// The hash of an accepted term; equal terms (=:=) have equal hashes within
// one OS process.
std::uint64_t hash(std::span<const std::byte> accepted);

// Erlang's =:= of two accepted terms.
bool equal(const std::byte* a, const std::byte* b);

} // namespace esp::etf
