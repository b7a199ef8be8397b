#include "trace/stamp.hpp"

#include <atomic>
#include <chrono>

namespace esp::trace {

std::optional<term> stamp(flags f) {
  using namespace std::chrono;
  if ((f & flag::timestamp) != 0) {
    const auto us = duration_cast<microseconds>(
                        system_clock::now().time_since_epoch())
                        .count();
    return term::tuple({term::integer(us / 1'000'000'000'000),
                        term::integer(us / 1'000'000 % 1'000'000),
                        term::integer(us % 1'000'000)});
  }
  if ((f & (flag::monotonic_timestamp | flag::strict_monotonic_timestamp))
      == 0)
    return std::nullopt;
  const auto ns = term::integer(
      duration_cast<nanoseconds>(steady_clock::now().time_since_epoch())
          .count());
  if ((f & flag::strict_monotonic_timestamp) == 0)
    return ns;
  static std::atomic<std::int64_t> count{0};
  return term::tuple({ns, term::integer(++count)});
}

} // namespace esp::trace
