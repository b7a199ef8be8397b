#include "coop/demand.hpp"

#include <algorithm>

namespace esp::coop {

void demand::want(const pid& node, std::uint32_t edge, std::uint64_t n) {
  const auto known = std::find_if(wants_.begin(), wants_.end(),
                                  [&](const grant& w) { return w.to == node; });
  if (known != wants_.end())
    known->units += n;
  else
    wants_.push_back({node, edge, n});
}

std::vector<demand::grant> demand::serve() {
  std::vector<grant> all;
  while (!wants_.empty() && (is_lost_ || asked_ > 0)) {
    const std::size_t nodes = wants_.size();
    const std::uint64_t share = std::max<std::uint64_t>(1, asked_ / nodes);
    for (std::size_t i = 0; i < nodes && (is_lost_ || asked_ > 0); ++i) {
      grant left = wants_.front();
      wants_.pop_front();
      grant now = left;
      if (!is_lost_) {
        now.units = std::min(left.units, share);
        asked_ -= now.units;
        granted_ += now.units;
      }
      left.units -= now.units;
      if (left.units > 0)
        wants_.push_back(left);
      all.push_back(now);
    }
  }
  return all;
}

term demand::describe() const {
  std::uint64_t ready = 0;
  for (const auto& w : wants_)
    ready += w.units;
  return term::map(
      {{atom("asked"), is_lost_
                           ? term(atom("infinity"))
                           : term::integer(static_cast<std::int64_t>(asked_))},
       {atom("ready"), term::integer(static_cast<std::int64_t>(ready))}});
}

} // namespace esp::coop
