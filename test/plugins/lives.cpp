// A child that tells of its life: init argument {Pid, Name}; Pid hears
// {init, Name, self()} when the state is made and {gone, Name, self()} when it
// goes. {exit, Reason} ends it so, {busy, Ms} computes for so long, {block, _}
// waits for ever; all else is passed on.

#include <esp/plugin.hpp>

#include <chrono>

namespace {

struct life {
  explicit life(esp::term args) : who(args) { tell("init"); }
  life(const life&) = delete;
  life& operator=(const life&) = delete;
  ~life() { tell("gone"); }

  void tell(const char* what) const {
    esp::send(*who.element(0).as_pid(),
              esp::term::tuple(
                  {esp::atom(what), who.element(1), esp::term(esp::self())}));
  }
  esp::term operator()(esp::term d) const {
    if (d.is_tagged("exit", 2))
      esp::exit(d.element(1));
    if (d.is_tagged("busy", 2)) {
      tell("busy");
      using clock = std::chrono::steady_clock;
      const auto until =
          clock::now() + std::chrono::milliseconds(*d.element(1).as_integer());
      while (clock::now() < until) {
      }
    }
    if (d.is_tagged("block", 2)) {
      tell("blocked");
      esp::sleep(esp::infinity);
    }
    return d;
  }
  esp::term who;
};

} // namespace

ESP_PLUGIN(lives, "1.0.0") {
  plugin.task<life>("life");
}
