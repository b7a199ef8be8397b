// An init that takes its time: it tells Pid `{initialising, self()}` and goes
// on when it hears `{go, ok}`, or fails when it hears anything else.

#include <esp/plugin.hpp>

#include <stdexcept>

namespace {

struct slow {
  explicit slow(esp::term pid) {
    esp::send(*pid.as_pid(),
              esp::term::tuple({esp::atom("initialising"), esp::self()}));
    const auto go =
        esp::receive([](const esp::term& m) { return m.is_tagged("go", 2); });
    if (!go->element(1).is_atom("ok"))
      throw std::runtime_error("told to fail");
  }
  esp::term operator()(esp::term d) { return d; }
};

// One that never ends, without blocking.
struct stuck {
  explicit stuck(esp::term pid) {
    esp::send(*pid.as_pid(),
              esp::term::tuple({esp::atom("initialising"), esp::self()}));
    for (volatile bool for_ever = true; for_ever;) {
    }
  }
  esp::term operator()(esp::term d) { return d; }
};

} // namespace

ESP_PLUGIN(slow_init, "1.0.0") {
  plugin.task<slow>("slow");
  plugin.task<stuck>("stuck");
}
