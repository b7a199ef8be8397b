// What no handler saves: a stack overflow, a write to nowhere, abort().

#include <esp/plugin.hpp>

#include <cstdint>
#include <cstdlib>

namespace {

// Not a tail call, and each frame is touched.
int deeper(volatile int* above) {
  volatile int here[256];
  here[0] = above[0] + 1;
  const int below = deeper(here);
  return below + here[0];
}

esp::term act(esp::term d) {
  if (d.is_atom("overflow")) {
    volatile int start[1] = {0};
    return esp::term::integer(deeper(start));
  }
  if (d.is_atom("segfault")) {
    // Not null: the sanitizer of undefined behaviour has a word on that.
    const volatile std::uintptr_t nowhere = 0x1000;
    *reinterpret_cast<volatile int*>(nowhere) = 1;
  }
  if (d.is_atom("abort"))
    std::abort();
  return d;
}

} // namespace

ESP_PLUGIN(faults, "1.0.0") {
  plugin.task("act", act);
}
