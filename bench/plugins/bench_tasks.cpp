// The tasks that `make bench` measures with: as little work as a task can do,
// so that what is left is the engine's.

#include <esp/plugin.hpp>

#include <utility>

namespace {

// Makes `n` data of one: the pipeline behind it never waits for the wire.
void source(std::int64_t n, esp::outlet& out) {
  for (std::int64_t i = 0; i < n; ++i)
    out.emit(esp::term::integer(i));
}

esp::term pass(esp::term t) { return t; }

// Takes all, and says how many at the next flush.
struct sink {
  std::int64_t n = 0;
  void operator()(esp::term) { ++n; }
  void flush(esp::outlet& out) { out.emit(std::exchange(n, 0)); }
};

// Takes all, and says so at each `args` of them.
struct count {
  explicit count(std::int64_t of_each) : each(of_each) {}
  std::int64_t each, n = 0;
  void operator()(esp::term, esp::outlet& out) {
    if (++n == each)
      out.emit(std::exchange(n, 0));
  }
};

// {Pid, Message}: back to where it came from.
void echo(std::pair<esp::pid, esp::term> m) { esp::send(m.first, m.second); }

// A pid: the way back from the end of a row of nodes.
void pong(esp::pid p) { esp::send(p, esp::atom("pong")); }

// {Pid, N}: N messages to one process.
void burst(std::pair<esp::pid, std::int64_t> m) {
  for (std::int64_t i = 0; i < m.second; ++i)
    esp::send(m.first, esp::term::integer(i));
}

} // namespace

ESP_PLUGIN(bench_tasks, "1.0.0") {
  plugin.task("source", source);
  plugin.task("pass", pass);
  plugin.task<sink>("sink");
  plugin.task<count>("count");
  plugin.task("echo", echo);
  plugin.task("pong", pong);
  plugin.task("burst", burst);
}
