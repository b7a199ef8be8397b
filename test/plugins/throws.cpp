// Ends by exceptions: of the standard library, of no class at all, and by
// esp::exit.

#include <esp/plugin.hpp>

#include <stdexcept>
#include <string>

namespace {

struct own_error {
  int code;
};

esp::term act(esp::term d) {
  if (d.is_tagged("runtime_error", 2))
    throw std::runtime_error(*d.element(1).as_iodata());
  if (d.is_atom("own"))
    throw own_error{7};
  if (d.is_atom("int"))
    throw 7;
  if (d.is_tagged("exit", 2))
    esp::exit(d.element(1));
  return d;
}

// The end comes with the barrier.
struct in_flush {
  esp::term operator()(esp::term d) { return d; }
  void flush(esp::outlet&) { throw std::runtime_error("flush"); }
};

} // namespace

ESP_PLUGIN(throws, "1.0.0") {
  plugin.task("act", act);
  plugin.task<in_flush>("in_flush");
}
