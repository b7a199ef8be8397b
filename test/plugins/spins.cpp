// Computes without blocking: {spin, Pid} tells Pid `{spinning, self()}` and
// runs for ever, {spin, Pid, Ms} for so long, then passes the datum on.

#include <esp/plugin.hpp>

#include <chrono>

namespace {

esp::term spin(esp::term d) {
  using clock = std::chrono::steady_clock;
  const bool for_ever = d.is_tagged("spin", 2);
  if (!for_ever && !d.is_tagged("spin", 3))
    return d;
  esp::send(*d.element(1).as_pid(),
            esp::term::tuple({esp::atom("spinning"), esp::self()}));
  const auto until =
      for_ever ? clock::time_point::max()
               : clock::now()
                     + std::chrono::milliseconds(*d.element(2).as_integer());
  while (clock::now() < until) {
  }
  return d;
}

} // namespace

ESP_PLUGIN(spins, "1.0.0") {
  plugin.task("spin", spin);
}
