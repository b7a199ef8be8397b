// The second image: nothing is where the first has it. What a change of code is
// told as its Extra, stamp obeys: `refuse`, {wait, Pid}, {unit, Text}.

#include <esp/plugin.hpp>

#include <atomic>
#include <cstdint>
#include <optional>
#include <stdexcept>
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
  std::string before = "the number was here";
  std::atomic<std::int64_t> asked{0};
};

struct mark {
  std::string note = "longer than what fits into a small string";
  std::vector<std::string> by;
  std::int64_t n = 0;
  static constexpr auto fields() {
    return esp::fields(esp::field("n", &mark::n), esp::field("by", &mark::by));
  }
};

void obey(const esp::term& extra) {
  if (extra.is_atom("refuse"))
    throw std::runtime_error("told to refuse");
  if (extra.is_tagged("wait", 2)) {
    esp::send(*extra.element(1).as_pid(),
              esp::term::tuple({esp::atom("changing"), esp::self()}));
    const auto told = esp::receive([](const esp::term& m) {
      return m.is_atom("go") || m.is_atom("refuse");
    });
    if (told->is_atom("refuse"))
      throw std::runtime_error("told to refuse");
  }
}

class stamp {
public:
  mark operator()(mark m) {
    ++total_;
    ++census::counted;
    m.by.push_back("2");
    return m;
  }
  stamp() = default;
  explicit stamp(esp::saved_state s)
      : total_(*s.value.get("total")->as_integer()) {}
  esp::term state() const {
    return esp::term::map({{esp::atom("total"), esp::term::integer(total_)},
                           {esp::atom("unit"), esp::term::binary(unit_)},
                           {esp::atom("since"), since_}});
  }
  static stamp code_change(const esp::term& old_vsn, const esp::term& old_state,
                           const esp::term& extra) {
    obey(extra);
    stamp s;
    const auto count = old_state.get("count");
    s.total_ = count ? *count->as_integer()
                     : *old_state.get("total").value().as_integer();
    s.since_ = old_vsn;
    if (extra.is_tagged("unit", 2))
      s.unit_ = *extra.element(1).as_iodata();
    return s;
  }
  esp::term code_change_down(const esp::term& to_vsn,
                             const esp::term& extra) const {
    obey(extra);
    if (to_vsn != esp::term::binary("1.0.0"))
      throw std::invalid_argument("no such version");
    return esp::term::map({{esp::atom("count"), esp::term::integer(total_)}});
  }

private:
  std::string unit_ = "pieces";
  double weight_ = 0.5;
  esp::term since_ = esp::atom("undefined");
  std::int64_t total_ = 0;
};

// One field more, which need not be there: nothing is to be written for that.
struct flushes {
  std::optional<std::string> first;
  std::int64_t last = 0;
  mark operator()(mark m) {
    last = m.n;
    return m;
  }
  void flush(esp::outlet& out) { out.emit(esp::atom("flushed")); }
  static constexpr auto fields() {
    return esp::fields(esp::field("first", &flushes::first),
                       esp::field("last", &flushes::last));
  }
};

// Its state does not fit the first one's.
struct measure {
  std::string unit;
  std::int64_t operator()(std::int64_t x) { return x; }
  static constexpr auto fields() {
    return esp::fields(esp::field("unit", &measure::unit));
  }
};
struct opaque {
  std::int64_t operator()(std::int64_t x) { return sum += x; }
  double unused = 0;
  std::int64_t sum = 0;
};
// It gives what a node of the first one does not take.
std::string number(std::int64_t x) {
  return std::to_string(x);
}

esp::term statics(esp::term) {
  return esp::term::tuple(
      {esp::term::binary("2"), esp::term::integer(++census::counted),
       esp::term::integer(++registry::instance().asked)});
}

std::string key(const mark& m) {
  return m.n % 2 == 0 ? "even" : "odd";
}

struct maker {
  std::string unused;
  std::vector<esp::pid> nodes;
  void operator()(mark m, esp::outlet& out) {
    const auto& to = nodes[static_cast<std::size_t>(m.n) % nodes.size()];
    out.emit_to(to, std::move(m));
  }
  static constexpr auto fields() {
    return esp::fields(esp::field("nodes", &maker::nodes));
  }
};

} // namespace grows

ESP_PLUGIN(grows, "2.0.0") {
  plugin.task<grows::stamp>("stamp");
  plugin.task<grows::flushes>("flushes");
  plugin.task<grows::measure>("measure");
  plugin.task<grows::opaque>("opaque");
  plugin.task<grows::maker>("maker");
  plugin.task("number", grows::number);
  plugin.task("statics", grows::statics);
  plugin.task("key", grows::key);
}
