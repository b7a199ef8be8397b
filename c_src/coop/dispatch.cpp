#include "coop/dispatch.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

namespace esp::coop {

namespace {

using method = dataflow::method;

// Every bit of the result depends on every bit of `x`.
constexpr std::uint64_t mix(std::uint64_t x) noexcept {
  x = (x ^ (x >> 33)) * 0xFF51AFD7ED558CCDU;
  x = (x ^ (x >> 33)) * 0xC4CEB9FE1A85EC53U;
  return x ^ (x >> 33);
}

std::uint32_t after(std::uint32_t place, std::size_t n) noexcept {
  return place + 1 < n ? place + 1 : 0;
}

} // namespace

dispatch::dispatch(dataflow how, std::span<const out_edge> out,
                   std::uint64_t seed, std::size_t width)
    : how_(std::move(how)), width_(width), chosen_(1), random_(seed) {
  if (how_.how == method::shuffle) {
    round_.resize(out.size() / width_);
    std::iota(round_.begin(), round_.end(), 0u);
  }
  if (how_.how == method::hash)
    for (std::size_t i = 0; i < out.size(); i += width_)
      seeds_.push_back(term(out[i].target).hash());
  if (how_.how == method::select)
    for (const auto& e : out)
      named_.emplace(e.target, static_cast<std::uint32_t>(named_.size()));
}

std::span<const std::uint32_t> dispatch::choose(datum& d,
                                                std::span<const out_edge> out) {
  const std::size_t n = out.size() / width_;
  switch (how_.how) {
  case method::broadcast:
  case method::consume: // has nothing to choose either
    break;
  case method::round_robin:
    chosen_.front() = std::exchange(next_, after(next_, n));
    break;
  case method::random:
    chosen_.front() = random_below(n);
    break;
  case method::shuffle:
    chosen_.front() = next_shuffled();
    break;
  case method::select:
    by_name(d);
    break;
  case method::hash:
    chosen_.front() = by_key(d);
    break;
  case method::least_loaded:
    chosen_.front() = least_loaded(out);
    break;
  }
  return chosen_;
}

// SplitMix64: unlike a shift register it has no state that it cannot leave.
// The high half of a product: no place is favoured, as the first ones would be
// by a remainder.
std::uint32_t dispatch::random_below(std::size_t n) noexcept {
  const std::uint64_t bits = mix(random_ += 0x9E3779B97F4A7C15U);
  return static_cast<std::uint32_t>(((bits >> 32) * n) >> 32);
}

// Fisher and Yates, one step for each result: what is behind next_ has had its
// turn in this round.
std::uint32_t dispatch::next_shuffled() noexcept {
  const std::size_t n = round_.size();
  std::swap(round_[next_], round_[next_ + random_below(n - next_)]);
  return round_[std::exchange(next_, after(next_, n))];
}

// Among equals the one whose turn it is. A full edge has as much outstanding as
// any can have, as all edges of a node have one window.
std::uint32_t dispatch::least_loaded(std::span<const out_edge> out) noexcept {
  const std::size_t n = out.size() / width_;
  std::uint32_t best = next_;
  std::uint64_t least = load(out, best);
  for (std::uint32_t i = after(best, n); i != next_ && least > 0;
       i = after(i, n))
    if (const auto l = load(out, i); l < least) {
      best = i;
      least = l;
    }
  next_ = after(best, n);
  return best;
}

// Of several edges that of the fullest: where one has credit, all have.
std::uint64_t dispatch::load(std::span<const out_edge> out,
                             std::size_t place) const noexcept {
  std::uint64_t most = 0;
  for (const auto& e : out.subspan(place * width_, width_))
    most = std::max(most, e.outstanding());
  return most;
}

// The highest of what key and worker give together (rendezvous hashing): a
// worker that comes draws its share of keys and moves no other, and only the
// keys of one that goes are drawn anew, whatever the order of the workers.
std::uint32_t dispatch::by_key(datum& d) {
  take_part(how_.by, d, parts_);
  if (parts_.size() != 1)
    throw no_part(how_.by, d);
  const std::uint64_t key = parts_.front().hash();
  std::uint32_t best = 0;
  std::uint64_t highest = 0;
  for (std::uint32_t i = 0; i < seeds_.size(); ++i)
    if (const std::uint64_t score = mix(key ^ seeds_[i]); score >= highest) {
      best = i;
      highest = score;
    }
  return best;
}

// All names are known, or the result goes nowhere.
void dispatch::by_name(datum& d) {
  chosen_.clear();
  take_part(how_.by, d, parts_);
  for (const term& name : parts_) {
    if (const auto several = name.as_list())
      for (const term& one : *several)
        add(one);
    else
      add(name);
  }
}

void dispatch::add(const term& name) {
  static const atom bad_select("bad_select");
  const auto a = name.as_atom();
  const auto found = a ? named_.find(*a) : named_.end();
  if (found == named_.end())
    throw bad_result(term::tuple({bad_select, name}));
  chosen_.push_back(found->second);
}

} // namespace esp::coop
