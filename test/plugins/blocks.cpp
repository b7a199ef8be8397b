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

// As {wait, Pid}, with a state that shows how many data it has had; {spin, Pid,
// Ms} computes instead.
struct counting_waiter {
  std::int64_t count = 0;
  esp::term operator()(esp::term d) {
    ++count;
    if (!d.is_tagged("wait", 2) && !d.is_tagged("spin", 3))
      return d;
    esp::send(*d.element(1).as_pid(),
              esp::term::tuple({esp::atom("waiting"), me()}));
    if (d.is_tagged("wait", 2))
      return esp::receive(
                 [](const esp::term& m) { return m.is_tagged("go", 2); })
          ->element(1);
    using clock = std::chrono::steady_clock;
    const auto until =
        clock::now() + std::chrono::milliseconds(*d.element(2).as_integer());
    while (clock::now() < until) {
    }
    return d;
  }
  static constexpr auto fields() {
    return esp::fields(esp::field("count", &counting_waiter::count));
  }
};

} // namespace

ESP_PLUGIN(blocks, "1.0.0") {
  plugin.task<sleeper>("block");
  plugin.task<counting_waiter>("count");
}
