// Tasks whose results tell which way they came: {Serial, Path}, Path a list of
// {Node, Copy}, last node first.

#include <esp/plugin.hpp>
#include <esp/process.hpp>

#include <cstdint>
#include <vector>

namespace {

esp::term via(const esp::term& d, const esp::term& node, std::int64_t copy) {
  std::vector<esp::term> path{
      esp::term::tuple({node, esp::term::integer(copy)})};
  if (const auto before = d.element(1).as_list())
    path.insert(path.end(), before->begin(), before->end());
  return esp::term::tuple({d.element(0), esp::term::list(path)});
}

struct copies {
  // {Name, N}: N results of each datum, as the node of this name.
  explicit copies(esp::term args)
      : name(args.element(0)), n(args.element(1).as_integer().value()) {}
  void operator()(esp::term d, esp::outlet& out) {
    for (std::int64_t i = 0; i < n; ++i)
      out.emit(via(d, name, i));
  }
  esp::term name;
  std::int64_t n;
};

// Passes on what is no atom, which it sleeps on for ever.
esp::term sleep_on(esp::term d) {
  if (d.as_atom())
    esp::sleep(esp::infinity);
  return d;
}

// Passes on what is no pid, which it monitors.
struct watch {
  void operator()(esp::term d, esp::outlet& out) {
    if (const auto p = d.as_pid())
      esp::monitor(*p);
    else
      out.emit(d);
  }
};

} // namespace

ESP_PLUGIN(seeded, "1.0.0") {
  plugin.task<copies>("copies");
  plugin.task("sleep_on", sleep_on);
  plugin.task<watch>("watch");
}
