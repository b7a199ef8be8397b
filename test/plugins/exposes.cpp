// Functions for other nodes to call, of all shapes; later/exposes.cpp is the
// image that comes after this one.

#include <esp/plugin.hpp>
#include <esp/rpc.hpp>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

struct point {
  double x = 0, y = 0;
  static constexpr auto fields() {
    return esp::fields(esp::field("x", &point::x), esp::field("y", &point::y));
  }
};

std::int64_t area(std::int64_t w, std::int64_t h) {
  return w * h;
}
std::int64_t square(std::int64_t side) {
  return side * side;
}

point center(const std::vector<point>& of) {
  point c;
  for (const auto& p : of) {
    c.x += p.x / static_cast<double>(of.size());
    c.y += p.y / static_cast<double>(of.size());
  }
  return c;
}

std::optional<std::string> last_word(std::string text) {
  const auto at = text.rfind(' ');
  if (at == std::string::npos)
    return std::nullopt;
  return text.substr(at + 1);
}

void refuse_to_do(const std::string& why) {
  throw std::runtime_error(why);
}

// Tells `who` where it is, and goes on when told to.
int hold(esp::pid who) {
  esp::send(who, esp::term::tuple({esp::atom("holding"), esp::self()}));
  (void)esp::receive([](const esp::term& m) { return m.is_atom("go"); });
  return 1;
}

} // namespace

ESP_PLUGIN(exposes, "1.0.0") {
  esp::expose("geometry", "area", area);
  esp::expose("geometry", "area", square);
  esp::expose("geometry", "center", center);
  esp::expose("words", "last", last_word);
  esp::expose("words", "version", [] { return 1; });
  esp::expose("acts", "hold", hold);
  esp::expose("acts", "nothing", [] {});
  esp::expose("acts", "same", [](esp::term any) { return any; });
  esp::expose("acts", "byte", [](std::uint8_t b) { return b; });
  esp::expose("acts", "self", [] { return esp::self(); });
  esp::expose("acts", "fail", refuse_to_do);
  esp::expose("acts", "throw_number", []() -> int { throw 42; });
  esp::expose("acts", "exit", [](esp::term why) { esp::exit(why); });
  esp::expose("acts", "not_a_number", [] { return 0.0 / 0.0; });
  esp::expose("acts", "call", [](esp::pid to, const esp::term& request) {
    return esp::call(to, request).value_or(esp::atom("no_answer"));
  });
  esp::expose("acts", "nap",
              [](std::uint32_t ms) { esp::sleep(esp::milliseconds(ms)); });
  // too late for it
  esp::expose("acts", "expose", [] { esp::expose("acts", "new", [] {}); });
}
