// Needs more stack than others: the datum says how many KiB it touches.

#include <esp/plugin.hpp>

#include <cstddef>
#include <cstdint>

namespace {

std::int64_t dig(std::int64_t kib) {
  volatile char here[1024];
  here[0] = static_cast<char>(kib);
  const std::int64_t below = kib > 1 ? dig(kib - 1) : 0;
  return below + (here[0] == static_cast<char>(kib) ? 1 : 0);
}

} // namespace

ESP_PLUGIN(stacks, "1.0.0") {
  plugin.task("small", dig);
  plugin.task("large", dig, {.stack = std::size_t{4} << 20});
}
