// Tasks for the suite of dataflow methods, and tasks that `hash` and `select`
// go by: what they make of a result decides where it goes.

#include <esp/plugin.hpp>
#include <esp/process.hpp>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace {

esp::term same(esp::term t) {
  return t;
}

// {Name, Datum}
struct label {
  explicit label(esp::term node_name) : name(node_name) {}
  esp::term operator()(esp::term d) { return esp::term::tuple({name, d}); }
  esp::term name;
};

// {Pid, Datum}
esp::term by(esp::term d) {
  return esp::term::tuple({esp::self(), d});
}

esp::many<std::int64_t> up_to(std::int64_t n) {
  esp::many<std::int64_t> all;
  for (std::int64_t i = 1; i <= n; ++i)
    all.push_back(i);
  return all;
}

std::string text(std::int64_t x) {
  return std::to_string(x);
}

// ---- Keys

std::int64_t tens(std::int64_t x) {
  return x / 10;
}
esp::many<std::int64_t> two_keys(std::int64_t x) {
  return {x, x};
}
std::string stolen(std::string s) {
  return s; // taken by value: the result must not be the poorer for it
}
std::int64_t throws_up(esp::term) {
  throw std::runtime_error("no key");
}
struct counter {
  std::int64_t operator()(std::int64_t) { return ++n; }
  std::int64_t n = 0;
};

// ---- Names

esp::atom by_parity(std::int64_t x) {
  return esp::atom(x % 2 == 0 ? "a" : "b");
}
// None for 0, both for multiples of 3, as single results or as a list.
void several(std::int64_t x, esp::outlet& out) {
  if (x == 0)
    return;
  if (x % 3 != 0)
    return out.emit(by_parity(x));
  if (x % 2 == 0)
    return out.emit(std::vector<esp::atom>{esp::atom("b"), esp::atom("a")});
  out.emit(esp::atom("b"));
  out.emit(esp::atom("a"));
}

} // namespace

ESP_PLUGIN(routes, "1.0.0") {
  plugin.task("same", same);
  plugin.task<label>("label");
  plugin.task("by", by);
  plugin.task("up_to", up_to);
  plugin.task("text", text);
  plugin.task("tens", tens);
  plugin.task("two_keys", two_keys);
  plugin.task("stolen", stolen);
  plugin.task("throws_up", throws_up);
  plugin.task<counter>("counter");
  plugin.task("by_parity", by_parity);
  plugin.task("several", several);
}
