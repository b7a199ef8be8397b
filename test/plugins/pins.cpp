// A thread-local with a destructor keeps an image mapped for good.

#include <esp/plugin.hpp>

#include <cstdint>
#include <string>

namespace {

thread_local std::string last;

std::int64_t length(std::string s) {
  last = s;
  return static_cast<std::int64_t>(last.size());
}

} // namespace

ESP_PLUGIN(pins, "1.0.0") {
  plugin.task("length", length);
}
