// The image after pins.cpp.

#include <esp/plugin.hpp>

#include <cstdint>
#include <string>

namespace {

std::int64_t length(std::string s) {
  return static_cast<std::int64_t>(s.size());
}

} // namespace

ESP_PLUGIN(pins, "2.0.0") {
  plugin.task("length", length);
}
