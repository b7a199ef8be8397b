// Blocks its fiber: {sleep, Pid} tells Pid `{sleeping, self()}` and sleeps for
// ever, {nap, Ms} sleeps so long and then passes the datum on, {wait, Pid} asks
// Pid for a {go, Result} with `{waiting, self()}`. Pid, the init argument, if
// it is one, hears `{destroyed, self()}` when the state goes.

#include <esp/plugin.hpp>

#include <chrono>
#include <cstdint>

namespace {

const esp::term me() {
  return esp::term(esp::self());
}

struct sleeper {
  explicit sleeper(esp::term args) : to(args) {}
  ~sleeper() {
    if (const auto p = to.as_pid())
      esp::send(*p, esp::term::tuple({esp::atom("destroyed"), me()}));
  }
  esp::term operator()(esp::term d) {
    if (d.is_tagged("sleep", 2)) {
      esp::send(*d.element(1).as_pid(),
                esp::term::tuple({esp::atom("sleeping"), me()}));
      esp::sleep(esp::infinity);
    }
    if (d.is_tagged("nap", 2))
      esp::sleep(esp::milliseconds(*d.element(1).as_integer()));
    if (d.is_tagged("wait", 2)) {
      esp::send(*d.element(1).as_pid(),
                esp::term::tuple({esp::atom("waiting"), me()}));
      return esp::receive(
                 [](const esp::term& m) { return m.is_tagged("go", 2); })
          ->element(1);
    }
    return d;
  }
  esp::term to;
};

} // namespace

ESP_PLUGIN(blocks, "1.0.0") {
  plugin.task<sleeper>("block");
}
