#include "rpc/bifs.hpp"
#include "rpc/measures.hpp"
#include "term/atom_table.hpp"

#include <algorithm>
#include <atomic>
#include <ctime>
#include <iterator>
#include <memory>

namespace esp::served {

namespace {

// ---- erlang:memory ----------------------------------------------------------

constexpr std::string_view memory_types[] = {
    "total",     "processes", "processes_used", "system", "atom",
    "atom_used", "binary",    "code",           "ets"};

// Binaries are not kept apart from what else is on the heap, and tables there
// are none.
term memory_of(const usage& u, std::string_view type) {
  if (type == "total")
    return integer(u.resident);
  if (type.starts_with("processes"))
    return integer(u.processes);
  if (type == "system")
    return integer(u.resident - u.processes);
  if (type.starts_with("atom"))
    return integer(etf::atom_text_bytes());
  return integer(type == "code" ? u.code : 0);
}

term memory(const usage& u, const term& type) {
  for (const auto name : memory_types)
    if (type.is_atom(name))
      return memory_of(u, name);
  badarg();
}

// ---- erlang:statistics ------------------------------------------------------

// What the last call of a kind saw, whoever called: the second element of
// those that have one is since then.
struct last_calls {
  std::atomic<std::uint64_t> reductions{0}, wall_clock{0}, runtime{0};
};

term since(std::atomic<std::uint64_t>& last, std::uint64_t now) {
  const std::uint64_t before = last.exchange(now);
  return term::tuple({integer(now), integer(now - std::min(before, now))});
}

std::uint64_t runtime_ms() {
  return static_cast<std::uint64_t>(std::clock()) * 1'000 / CLOCKS_PER_SEC;
}

using workers = std::vector<sched::worker_gauges>;

template <class Value>
term list_of(const workers& which, Value&& value) {
  std::vector<term> all;
  for (const auto& w : which)
    all.push_back(value(w));
  return term::list(all);
}

std::uint64_t in_queue(const sched::worker_gauges& w) { return w.run_queue; }
std::uint64_t active(const sched::worker_gauges& w) {
  return w.run_queue + (w.is_asleep ? 0 : 1);
}

// One number for each, or their sum.
using number = std::uint64_t (*)(const sched::worker_gauges&);
term each(const workers& which, number of) {
  return list_of(which, [of](const auto& w) { return integer(of(w)); });
}
term sum(const workers& which, number of) {
  std::uint64_t n = 0;
  for (const auto& w : which)
    n += of(w);
  return integer(n);
}

// The clock of a worker's thread is what it was busy; it is always on.
term wall_time(const workers& which) {
  const std::uint64_t total = since_start_ns();
  std::uint64_t id = 0;
  return list_of(which, [&](const sched::worker_gauges& w) {
    const auto busy = static_cast<std::uint64_t>(w.cpu_time.count());
    return term::tuple(
        {integer(++id), integer(std::min(busy, total)), integer(total)});
  });
}

// Stand-ins are what `all` adds, as dirty schedulers are to a BEAM.
term statistics(const call_context& c, last_calls& last, const term& what) {
  const auto is = [&what](std::string_view name) { return what.is_atom(name); };
  const workers all = c.home.workers().read_workers();
  workers own;
  std::copy_if(all.begin(), all.end(), std::back_inserter(own),
               [](const auto& w) { return !w.is_stand_in; });

  if (is("run_queue") || is("total_run_queue_lengths_all"))
    return sum(all, in_queue);
  if (is("total_run_queue_lengths"))
    return sum(own, in_queue);
  if (is("run_queue_lengths_all"))
    return each(all, in_queue);
  if (is("run_queue_lengths"))
    return each(own, in_queue);
  if (is("total_active_tasks_all"))
    return sum(all, active);
  if (is("total_active_tasks"))
    return sum(own, active);
  if (is("active_tasks_all"))
    return each(all, active);
  if (is("active_tasks"))
    return each(own, active);
  if (is("scheduler_wall_time"))
    return wall_time(own);
  if (is("scheduler_wall_time_all"))
    return wall_time(all);

  if (is("context_switches"))
    return term::tuple({integer(c.home.workers().read().runs), integer(0)});
  if (is("reductions") || is("exact_reductions"))
    return since(last.reductions, c.home.workers().read().runs);
  if (is("wall_clock"))
    return since(last.wall_clock, since_start_ns() / 1'000'000);
  if (is("runtime"))
    return since(last.runtime, runtime_ms());
  if (is("garbage_collection"))
    return term::tuple({integer(0), integer(0), integer(0)});
  if (is("microstate_accounting"))
    return atom("undefined"); // as where it is not switched on
  if (is("io")) {
    const auto n = c.home.count_traffic();
    return term::tuple({term::tuple({atom("input"), integer(n.in)}),
                        term::tuple({atom("output"), integer(n.out)})});
  }
  badarg();
}

} // namespace

void add_statistics(function_table& t) {
  const auto add = [&t](std::string_view name, unsigned arity, function f) {
    t.add("erlang", name, arity, std::move(f), effect::looks);
  };
  add("statistics", 1,
      [last = std::make_shared<last_calls>()](call_context& c, arguments a) {
        return statistics(c, *last, a[0]);
      });
  add("memory", 0, [](call_context& c, arguments) {
    const usage u = read_usage(c.home);
    std::vector<term> all;
    for (const auto name : memory_types)
      all.push_back(term::tuple({atom(name), memory_of(u, name)}));
    return term::list(all);
  });
  add("memory", 1, [](call_context& c, arguments a) {
    const usage u = read_usage(c.home);
    const auto types = a[0].as_list();
    if (!types)
      return memory(u, a[0]);
    std::vector<term> all;
    for (const term& type : *types)
      all.push_back(term::tuple({type, memory(u, type)}));
    return term::list(all);
  });
}

} // namespace esp::served
