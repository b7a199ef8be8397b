#include "coop/dispatch.hpp"

#include <numeric>
#include <utility>

namespace esp::coop {

namespace {

// Every bit of the result depends on every bit of `x`.
constexpr std::uint64_t mix(std::uint64_t x) noexcept {
  x = (x ^ (x >> 33)) * 0xFF51AFD7ED558CCDU;
  x = (x ^ (x >> 33)) * 0xC4CEB9FE1A85EC53U;
  return x ^ (x >> 33);
}

// The high half of a product: no place of the `n` is favoured, as the first
// ones would be by a remainder.
constexpr std::uint32_t place_of(std::uint64_t bits, std::size_t n) noexcept {
  return static_cast<std::uint32_t>(((bits >> 32) * n) >> 32);
}

} // namespace

dispatch::dispatch(dataflow how, std::span<const out_edge> out,
                   std::uint64_t seed)
    : how_(std::move(how)), chosen_(1), random_(seed) {
  if (how_.how == dataflow::method::broadcast) {
    chosen_.resize(out.size());
    std::iota(chosen_.begin(), chosen_.end(), 0u);
  }
}

std::span<const std::uint32_t> dispatch::choose(const datum& d,
                                                std::span<const out_edge> out) {
  switch (how_.how) {
  case dataflow::method::broadcast:
    break;
  case dataflow::method::round_robin:
    chosen_.front() = next_;
    next_ = next_ + 1 < out.size() ? next_ + 1 : 0;
    break;
  case dataflow::method::random:
    chosen_.front() = random_below(out.size());
    break;
  case dataflow::method::hash:
    chosen_.front() = place_of(mix(hash_of(d)), out.size());
    break;
  }
  return chosen_;
}

// SplitMix64: unlike a shift register it has no state that it cannot leave.
std::uint32_t dispatch::random_below(std::size_t n) noexcept {
  return place_of(mix(random_ += 0x9E3779B97F4A7C15U), n);
}

std::uint64_t dispatch::hash_of(const datum& d) const {
  const term t = d.to_term();
  if (how_.element && *how_.element < t.arity() && t.kind() == kind::tuple)
    return t.element(*how_.element).hash();
  if (how_.key)
    if (const auto v = t.get(*how_.key))
      return v->hash();
  return t.hash();
}

} // namespace esp::coop
