#include "coop/losses.hpp"

namespace esp::coop {

namespace {

term number(std::uint64_t n) {
  return term::integer(static_cast<std::int64_t>(n));
}

} // namespace

term losses::describe() const {
  return term::map({{atom("lost"), number(lost)},
                    {atom("dead_lettered"), number(dead_lettered)}});
}

term losses::write() const {
  return term::map({{atom("lost"), number(lost)},
                    {atom("dead_lettered"), number(dead_lettered)},
                    {atom("delivered"), number(delivered)}});
}

std::optional<losses> losses::read(const term& t) {
  if (t.kind() != kind::map)
    return std::nullopt;
  const auto count = [&](const char* what) {
    const auto n = t.get(what);
    return static_cast<std::uint64_t>(n ? n->as_integer().value_or(0) : 0);
  };
  return losses{count("lost"), count("dead_lettered"), count("delivered")};
}

} // namespace esp::coop
