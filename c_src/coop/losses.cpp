#include "coop/losses.hpp"

namespace esp::coop {

term losses::describe() const {
  const auto count = [](std::uint64_t n) {
    return term::integer(static_cast<std::int64_t>(n));
  };
  return term::map({{atom("lost"), count(lost)},
                    {atom("dead_lettered"), count(dead_lettered)}});
}

std::optional<losses> losses::read(const term& t) {
  if (t.kind() != kind::map)
    return std::nullopt;
  const auto count = [&](const char* what) {
    const auto n = t.get(what);
    return static_cast<std::uint64_t>(n ? n->as_integer().value_or(0) : 0);
  };
  return losses{count("lost"), count("dead_lettered")};
}

} // namespace esp::coop
