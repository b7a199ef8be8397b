// The third image, which nobody gets to run: it takes no state.

#include <esp/plugin.hpp>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace grows {

struct mark {
  std::int64_t n = 0;
  std::vector<std::string> by;
  static constexpr auto fields() {
    return esp::fields(esp::field("n", &mark::n), esp::field("by", &mark::by));
  }
};

struct stamp {
  mark operator()(mark m) {
    m.by.push_back("3");
    return m;
  }
  static stamp code_change(const esp::term&, const esp::term&,
                           const esp::term&) {
    throw std::domain_error("not from there");
  }
};

} // namespace grows

ESP_PLUGIN(grows, "3.0.0") {
  plugin.task<grows::stamp>("stamp");
}
