// Fragments of many sequences in any order: the joiner keeps its limits, and a
// whole signal is what its fragments were.

#include "dist/fragment.hpp"

#include <cstdlib>
#include <map>

using namespace esp::dist;
using outcome = fragment_joiner::outcome;

namespace {

constexpr fragment_limits limits{.max_signal = 300,
                                 .max_total = 500,
                                 .max_sequences = 4,
                                 .max_swallowed = 3};

void require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

} // namespace

// Three bytes a fragment: kind, sequence and oversize; id; size of its body,
// which is made of the first byte.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  fragment_joiner joiner{limits};
  std::map<std::uint64_t, std::vector<std::byte>> model;
  for (; size >= 3; data += 3, size -= 3) {
    std::vector<std::byte> body(data[2], std::byte{data[0]});
    frame f;
    f.kind = (data[0] & 1) != 0 ? frame_kind::first_fragment
                                : frame_kind::next_fragment;
    f.is_oversize = data[0] >= 0xF0;
    f.sequence_id = data[0] >> 1 & 15U;
    f.fragment_id = data[1];
    if (!f.is_oversize) {
      f.body = body;
    }
    auto o = joiner.add(f);
    if (!o) {
      require(!o.error().what.empty());
      return 0; // the connection is closed
    }
    auto& kept = model[f.sequence_id];
    if (f.kind == frame_kind::first_fragment) {
      kept.clear();
    }
    kept.insert(kept.end(), f.body.begin(), f.body.end());
    if (*o == outcome::complete) {
      require(f.fragment_id == 1);
      require(kept.size() == joiner.body().size());
      require(std::equal(kept.begin(), kept.end(), joiner.body().begin()));
      require(kept.size() <= limits.max_signal);
    } else {
      require(joiner.body().empty());
    }
    require(joiner.total() <= limits.max_total);
    require(joiner.sequences() <= limits.max_sequences);
  }
  return 0;
}
