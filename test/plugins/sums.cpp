// Tasks for the suites of mixed co-ops: one result, none until a flush, and an
// init that fails.

#include <esp/plugin.hpp>

#include <cstdint>
#include <stdexcept>

namespace {

std::int64_t plus1(std::int64_t x) {
  return x + 1;
}

esp::term same(esp::term t) {
  return t;
}

struct total {
  explicit total(std::int64_t first) : sum(first) {}
  void operator()(std::int64_t x, esp::outlet&) { sum += x; }
  void flush(esp::outlet& out) { out.emit(sum); }
  std::int64_t sum;
};

struct no_init {
  explicit no_init(std::int64_t) { throw std::runtime_error("no init"); }
  std::int64_t operator()(std::int64_t x) { return x; }
};

} // namespace

ESP_PLUGIN(sums, "1.0.0") {
  plugin.task("plus1", plus1);
  plugin.task("same", same);
  plugin.task<total>("total");
  plugin.task<no_init>("no_init");
}
