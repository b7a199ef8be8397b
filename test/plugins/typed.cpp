// Tasks whose types say what they take.

#include <esp/plugin.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace {

std::int64_t number(std::int64_t x) {
  return x;
}
std::string text(std::string s) {
  return s;
}
std::int64_t length(std::string s) {
  return static_cast<std::int64_t>(s.size());
}
esp::many<std::int64_t> up_to(std::int64_t n) {
  esp::many<std::int64_t> all;
  for (std::int64_t i = 1; i <= n; ++i)
    all.push_back(i);
  return all;
}
std::optional<std::int64_t> even(std::int64_t x) {
  return x % 2 == 0 ? std::optional(x) : std::nullopt;
}
void nothing(esp::term) {}

// {Name, Datum}: to that node only.
void by_name(esp::term d, esp::outlet& out) {
  out.emit_to(d.element(0).as_atom()->name(), d.element(1));
}

struct needs_number {
  explicit needs_number(std::int64_t n) : by(n) {}
  std::int64_t operator()(std::int64_t x) { return x + by; }
  std::int64_t by;
};

} // namespace

ESP_PLUGIN(typed, "1.0.0") {
  plugin.task("number", number);
  plugin.task("text", text);
  plugin.task("length", length);
  plugin.task("up_to", up_to);
  plugin.task("even", even);
  plugin.task("nothing", nothing);
  plugin.task("by_name", by_name);
  plugin.task<needs_number>("needs_number");
}
