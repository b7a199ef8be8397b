// The native half of the model of coop_props: {Serial, Path} gets this node's
// name ahead of its path, and a flush emits {{count, Name, N}, [Name]}.

#include <esp/plugin.hpp>

#include <cstdint>
#include <vector>

namespace {

struct counting {
  explicit counting(esp::term node_name) : name(node_name) {}
  void operator()(esp::term d, esp::outlet& out) {
    ++count;
    std::vector<esp::term> path{name};
    if (const auto old = d.element(1).as_list())
      path.insert(path.end(), old->begin(), old->end());
    out.emit(esp::term::tuple({d.element(0), esp::term::list(path)}));
  }
  void flush(esp::outlet& out) {
    out.emit(esp::term::tuple(
        {esp::term::tuple({esp::atom("count"), name,
                           esp::term::integer(std::int64_t{count})}),
         esp::term::list({name})}));
    count = 0;
  }
  esp::term name;
  std::int64_t count = 0;
};

// Names itself as {Name, Datum}.
struct labels {
  explicit labels(esp::term node_name) : name(node_name) {}
  esp::term operator()(esp::term d) { return esp::term::tuple({name, d}); }
  esp::term name;
};

} // namespace

ESP_PLUGIN(counting, "1.0.0") {
  plugin.task<counting>("counting");
  plugin.task<labels>("labels");
}
