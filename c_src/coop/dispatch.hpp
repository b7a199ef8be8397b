// A dataflow method at work: which of a node's edges each of its results
// takes, or which instance of the template each datum of a head. (By
// `broadcast` all of them, so nothing is to be chosen, and the many nodes that
// have no more than one edge need none of this.) Sends nothing and waits for
// nothing; its owner, one thread at a time, does. doc/dataflow.md says what
// each method promises.

#pragma once

#include "coop/dataflow.hpp"
#include "coop/edge.hpp"

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace esp::coop {

class dispatch {
public:
  // For those edges, of which there is one at least, and any method but
  // broadcast. `width` edges that follow each other are chosen as one: an
  // instance. Two of the same `seed` make the same random choices.
  dispatch(dataflow how, std::span<const out_edge> out, std::uint64_t seed,
           std::size_t width = 1);

  // Whether a result may go to any edge that has credit. The others wait for
  // the edge that is due.
  bool takes_any() const noexcept {
    return how_.how == dataflow::method::least_loaded;
  }
  // Whether the choice depends on the datum.
  bool looks_at_data() const noexcept {
    return how_.how == dataflow::method::hash
           || how_.how == dataflow::method::select;
  }
  // The task that `hash` or `select` goes by; '' if it goes by none. It may be
  // had from another image, when the node's is.
  atom by_task() const noexcept {
    return how_.by.what == part::kind::task ? *how_.by.key.as_atom() : atom();
  }
  void go_by(const detail::task_entry* task) noexcept { how_.by.task = task; }
  // The places in `out`, the edges it was made for, that `d` goes to, in that
  // order, counted by `width`; none only by `select`. Valid until the next
  // call. Throws bad_result, and what a task that `hash` or `select` goes by
  // throws.
  std::span<const std::uint32_t> choose(datum& d,
                                        std::span<const out_edge> out);

private:
  std::uint32_t random_below(std::size_t n) noexcept;
  std::uint32_t next_shuffled() noexcept;
  std::uint32_t least_loaded(std::span<const out_edge> out) noexcept;
  std::uint64_t load(std::span<const out_edge> out,
                     std::size_t place) const noexcept;
  std::uint32_t by_key(datum& d);
  void by_name(datum& d);
  void add(const term& name);

  dataflow how_;
  const std::size_t width_;
  std::vector<std::uint32_t> chosen_;
  std::uint32_t next_ = 0; // whose turn it is
  std::uint64_t random_ = 0;
  std::vector<std::uint32_t> round_;              // of shuffle
  std::vector<std::uint64_t> seeds_;              // of hash
  std::unordered_map<atom, std::uint32_t> named_; // of select
  std::vector<term> parts_;
};

} // namespace esp::coop
