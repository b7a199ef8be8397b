#include "node/pid_table.hpp"
#include "rpc/bifs.hpp"

#include <unistd.h>

#include <chrono>
#include <ctime>
#include <fstream>
#include <string>
#include <thread>

namespace esp::served {

namespace {

term integer(std::uint64_t n) {
  return term::integer(static_cast<std::int64_t>(n));
}

std::uint64_t processors() {
  return std::max(1u, std::thread::hardware_concurrency());
}

term system_info(const call_context& c, const term& what) {
  const auto is = [&what](std::string_view name) { return what.is_atom(name); };
  if (is("wordsize") || what.is_tagged("wordsize", 2))
    return integer(sizeof(void*));
  if (is("process_count"))
    return integer(c.home.table().size());
  if (is("process_limit"))
    return integer(node::pid_table::max_processes);
  if (is("schedulers") || is("schedulers_online"))
    return integer(c.home.workers().read().workers);
  if (is("logical_processors") || is("logical_processors_online")
      || is("logical_processors_available"))
    return integer(processors());
  if (is("dirty_cpu_schedulers") || is("dirty_cpu_schedulers_online")
      || is("dirty_io_schedulers") || is("port_count") || is("ets_count")
      || is("thread_pool_size"))
    return integer(0);
  if (is("creation"))
    return integer(c.home.creation());
  if (is("otp_release"))
    return term::string("25"); // whose protocol this is
  if (is("version"))
    return term::string("13.1.5");
  if (is("machine"))
    return term::string("ESP");
  if (is("system_architecture"))
    return term::string("x86_64-pc-linux-gnu");
  if (is("threads") || is("smp_support"))
    return boolean(true);
  badarg();
}

struct usage {
  std::uint64_t resident = 0, code = 0, processes = 0;
};

// From the kernel, in bytes. What the processes themselves take is an estimate:
// their tasks' states are not ours to measure.
usage read_usage(const call_context& c) {
  usage u;
  std::uint64_t size = 0, shared = 0;
  std::ifstream statm("/proc/self/statm");
  statm >> size >> u.resident >> shared >> u.code;
  const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  u.resident *= page;
  u.code *= page;
  u.processes = std::min<std::uint64_t>(
      c.home.table().size() * sizeof(node::process), u.resident);
  return u;
}

constexpr std::string_view memory_types[] = {
    "total",     "processes", "processes_used", "system", "atom",
    "atom_used", "binary",    "code",           "ets"};

term memory_of(const usage& u, std::string_view type) {
  if (type == "total")
    return integer(u.resident);
  if (type.starts_with("processes"))
    return integer(u.processes);
  if (type == "system")
    return integer(u.resident - u.processes);
  return integer(type == "code" ? u.code : 0);
}

term memory(const usage& u, const term& type) {
  for (const auto name : memory_types)
    if (type.is_atom(name))
      return memory_of(u, name);
  badarg();
}

std::uint64_t milliseconds_of(std::clock_t t) {
  return static_cast<std::uint64_t>(t) * 1'000 / CLOCKS_PER_SEC;
}

// Since the start of the node; the second element, since the last call, is
// kept by nobody here and the same.
term statistics(const call_context& c, const term& what) {
  static const auto start = std::chrono::steady_clock::now();
  const auto since_start = [](std::uint64_t n) {
    return term::tuple({integer(n), integer(n)});
  };
  const auto g = c.home.workers().read();
  if (what.is_atom("run_queue") || what.is_atom("total_run_queue_lengths")
      || what.is_atom("total_run_queue_lengths_all"))
    return integer(g.run_queue);
  if (what.is_atom("reductions") || what.is_atom("exact_reductions"))
    return since_start(g.runs);
  if (what.is_atom("wall_clock"))
    return since_start(static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(
            std::chrono::steady_clock::now() - start)
            .count()));
  if (what.is_atom("runtime"))
    return since_start(milliseconds_of(std::clock()));
  if (what.is_atom("garbage_collection"))
    return term::tuple({integer(0), integer(0), integer(0)});
  if (what.is_atom("io")) {
    std::uint64_t in = 0, out = 0;
    for (const auto& p : c.home.connections().connected()) {
      const auto n = p->count();
      in += n.bytes_in;
      out += n.bytes_out;
    }
    return term::tuple({term::tuple({atom("input"), integer(in)}),
                        term::tuple({atom("output"), integer(out)})});
  }
  badarg();
}

} // namespace

void add_system_info(function_table& t) {
  const auto add = [&t](std::string_view module, std::string_view name,
                        unsigned arity, function f) {
    t.add(module, name, arity, std::move(f), effect::looks);
  };
  add("erlang", "system_info", 1,
      [](call_context& c, arguments a) { return system_info(c, a[0]); });
  add("os", "getpid", 0, [](call_context&, arguments) {
    return term::string(std::to_string(::getpid()));
  });
  add("erlang", "statistics", 1,
      [](call_context& c, arguments a) { return statistics(c, a[0]); });
  add("erlang", "memory", 0, [](call_context& c, arguments) {
    const usage u = read_usage(c);
    std::vector<term> all;
    for (const auto name : memory_types)
      all.push_back(term::tuple({atom(name), memory_of(u, name)}));
    return term::list(all);
  });
  add("erlang", "memory", 1, [](call_context& c, arguments a) {
    const usage u = read_usage(c);
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
