// A dataflow method at work: which of a node's edges each of its results
// takes. Sends nothing and waits for nothing; its owner, one thread at a time,
// does. doc/dataflow.md says what each method promises.

#pragma once

#include "esp/datum.hpp"

#include "coop/edge.hpp"
#include "coop/spec.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace esp::coop {

class dispatch {
public:
  dispatch() = default; // for a node without edges: it is not to be asked
  // For those edges, of which there is one at least. Two of the same `seed`
  // make the same random choices.
  dispatch(dataflow how, std::span<const out_edge> out, std::uint64_t seed);

  // The places in `out`, the edges it was made for, that `d` goes to, in that
  // order. Valid until the next call.
  std::span<const std::uint32_t> choose(const datum& d,
                                        std::span<const out_edge> out);

private:
  std::uint32_t random_below(std::size_t n) noexcept;
  std::uint64_t hash_of(const datum& d) const;

  dataflow how_;
  std::vector<std::uint32_t> chosen_; // of broadcast: all of them
  std::uint32_t next_ = 0;            // of round_robin
  std::uint64_t random_ = 0;
};

} // namespace esp::coop
