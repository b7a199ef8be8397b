// The native twin of coop_model's task: the same results for the same data, and
// a log of them as its state.

#include <esp/plugin.hpp>

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

namespace {

using args = std::tuple<esp::atom, esp::atom, bool, std::vector<esp::atom>>;

struct step {
  explicit step(args a)
      : name(std::get<0>(a)),
        kind(std::get<1>(a)),
        emits(std::get<2>(a)),
        targets(std::get<3>(a)) {}

  // {Stretch, Key, From, Seq, Names}
  void operator()(esp::term d, esp::outlet& out) {
    log.push_back(d);
    ++since;
    const std::int64_t of = *d.element(0).as_integer();
    const std::int64_t key = *d.element(1).as_integer();
    if ((kind == "even" && key % 2 == 1) || kind == "none")
      return;
    if (kind == "to" && !targets.empty())
      return out.emit_to(nth(key).name(), result(of, key));
    out.emit(result(of, key));
    if (kind == "two")
      out.emit(result(of, key + 1));
  }

  void flush(esp::outlet& out) {
    log.push_back(esp::atom("flush"));
    const std::int64_t of = stretch++, count = since;
    since = 0;
    if (emits)
      out.emit(result(of, count));
  }

  esp::term state() const { return esp::term::list(log); }
  explicit step(esp::saved_state s) : emits(false), log(*s.value.as_list()) {}

private:
  esp::atom nth(std::int64_t key) const {
    return targets[static_cast<std::size_t>(key) % targets.size()];
  }

  esp::term names(std::int64_t key) const {
    if (targets.empty() || key % 4 == 0)
      return esp::term();
    if (key % 4 == 1)
      return nth(key);
    std::vector<esp::term> all;
    if (key % 4 == 3)
      all.assign(targets.begin(), targets.end());
    all.push_back(nth(key));
    return esp::term::list(all);
  }

  esp::term result(std::int64_t of, std::int64_t key) {
    return esp::term::tuple({esp::term::integer(of), esp::term::integer(key),
                             name, esp::term::integer(++seq), names(key)});
  }

  esp::atom name, kind;
  bool emits;
  std::vector<esp::atom> targets;
  std::vector<esp::term> log;
  std::int64_t stretch = 1, since = 0, seq = 0;
};

// Keys and names to go by.
std::int64_t by_thirds(esp::term d) {
  return *d.element(1).as_integer() / 3;
}
esp::term by_names(esp::term d) {
  return d.element(4);
}

} // namespace

ESP_PLUGIN(model, "1.0.0") {
  plugin.task<step>("step");
  plugin.task("by_thirds", by_thirds);
  plugin.task("by_names", by_names);
}
