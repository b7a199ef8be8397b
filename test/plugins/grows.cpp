// The first of three images of one plugin (second/ and third/ have the others):
// its states and values are laid out in another way in each, and each has an
// inline static and a singleton, which are its own.

#include <esp/plugin.hpp>

#include <atomic>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace grows {

struct census {
  inline static std::atomic<std::int64_t> counted{0};
};
struct registry {
  static registry& instance() {
    static registry r;
    return r;
  }
  std::atomic<std::int64_t> asked{0};
};

// What goes from node to node: a number, and the versions of who has had it.
struct mark {
  std::int64_t n = 0;
  std::vector<std::string> by;
  static constexpr auto fields() {
    return esp::fields(esp::field("n", &mark::n), esp::field("by", &mark::by));
  }
};

struct stamp {
  std::int64_t count = 0;
  mark operator()(mark m) {
    ++count;
    ++census::counted;
    m.by.push_back("1");
    return m;
  }
  static constexpr auto fields() {
    return esp::fields(esp::field("count", &stamp::count));
  }
};

// Its flush is heard of.
struct flushes {
  std::int64_t last = 0;
  mark operator()(mark m) {
    last = m.n;
    return m;
  }
  void flush(esp::outlet& out) { out.emit(esp::atom("flushed")); }
  static constexpr auto fields() {
    return esp::fields(esp::field("last", &flushes::last));
  }
};

// What the next version has another kind of, or none.
struct measure {
  std::int64_t level = 0;
  std::int64_t operator()(std::int64_t x) { return level += x; }
  static constexpr auto fields() {
    return esp::fields(esp::field("level", &measure::level));
  }
};
struct opaque {
  std::int64_t operator()(std::int64_t x) { return sum += x; }
  std::int64_t sum = 0;
};
std::int64_t gone(std::int64_t x) {
  return x;
}
std::int64_t number(std::int64_t x) {
  return x;
}

esp::term statics(esp::term) {
  return esp::term::tuple(
      {esp::term::binary("1"), esp::term::integer(++census::counted),
       esp::term::integer(++registry::instance().asked)});
}

// Starts a process that answers once, when it is told to.
void starts(esp::pid to) {
  esp::spawn([to] {
    esp::send(to, esp::term::tuple({esp::atom("started"), esp::self()}));
    const auto told = esp::receive([](const esp::term&) { return true; });
    esp::send(to, esp::term::tuple({esp::atom("told"), *told}));
  });
}

// To which worker a mark goes.
std::string key(const mark& m) {
  return m.n % 2 == 0 ? "even" : "odd";
}

// Starts a node for each key, and passes marks through these.
struct maker {
  std::vector<esp::pid> nodes;
  void operator()(mark m, esp::outlet& out) {
    if (nodes.empty())
      for (const char* name : {"first", "second"})
        nodes.push_back(*esp::start_node(name, "stamp"));
    const auto& to = nodes[static_cast<std::size_t>(m.n) % nodes.size()];
    out.emit_to(to, std::move(m));
  }
  static constexpr auto fields() {
    return esp::fields(esp::field("nodes", &maker::nodes));
  }
};

} // namespace grows

ESP_PLUGIN(grows, "1.0.0") {
  plugin.task<grows::stamp>("stamp");
  plugin.task<grows::flushes>("flushes");
  plugin.task<grows::measure>("measure");
  plugin.task<grows::opaque>("opaque");
  plugin.task<grows::maker>("maker");
  plugin.task("gone", grows::gone);
  plugin.task("number", grows::number);
  plugin.task("statics", grows::statics);
  plugin.task("starts", grows::starts);
  plugin.task("key", grows::key);
}
