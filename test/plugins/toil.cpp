// Tasks that take their time over each datum, which they pass on: init argument
// {Pid, Name, Microseconds}. Pid hears {at_work, Name, self()} with each datum;
// then `toil` computes for so long, and `drowse` blocks.

#include <esp/plugin.hpp>

#include <chrono>

namespace {

struct worker {
  explicit worker(esp::term args)
      : to(*args.element(0).as_pid()),
        name(args.element(1)),
        time(*args.element(2).as_integer()) {}
  void tell() const {
    esp::send(to, esp::term::tuple(
                      {esp::atom("at_work"), name, esp::term(esp::self())}));
  }
  esp::pid to;
  esp::term name;
  std::chrono::microseconds time;
};

struct toil : worker {
  explicit toil(esp::term args) : worker(args) {}
  esp::term operator()(esp::term d) const {
    tell();
    using clock = std::chrono::steady_clock;
    const auto until = clock::now() + time;
    while (clock::now() < until) {
    }
    return d;
  }
};

struct drowse : worker {
  explicit drowse(esp::term args) : worker(args) {}
  esp::term operator()(esp::term d) const {
    tell();
    esp::sleep(std::chrono::duration_cast<esp::milliseconds>(time));
    return d;
  }
};

} // namespace

ESP_PLUGIN(toil, "1.0.0") {
  plugin.task<toil>("toil");
  plugin.task<drowse>("drowse");
}
