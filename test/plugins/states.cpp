// States that show and take, or do not: by fields(), by state(), not at all.

#include <esp/plugin.hpp>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace {

struct counter {
  std::int64_t count = 0;
  std::string last;

  void operator()(std::string word, esp::outlet& out) {
    ++count;
    last = word;
    out.emit(std::move(word));
  }
  static constexpr auto fields() {
    return esp::fields(esp::field("count", &counter::count),
                       esp::field("last", &counter::last));
  }
};

// Its own idea of how it is saved; it does not take what is below zero.
class meter {
public:
  meter() = default;
  explicit meter(esp::saved_state s) : level_(*s.value.as_integer()) {
    if (level_ < 0)
      throw std::invalid_argument("below zero");
  }
  std::int64_t operator()(std::int64_t by) { return level_ += by; }
  esp::term state() const { return esp::term::integer(level_); }

private:
  std::int64_t level_ = 0;
};

struct opaque {
  std::int64_t operator()(std::int64_t x) { return sum += x; }
  std::int64_t sum = 0;
};

} // namespace

ESP_PLUGIN(states, "1.0.0") {
  plugin.task<counter>("counter");
  plugin.task<meter>("meter");
  plugin.task<opaque>("opaque");
}
