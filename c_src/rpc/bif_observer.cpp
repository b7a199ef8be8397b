// observer_backend of runtime_tools, by the functions that are here as there.

#include "esp/process.hpp"

#include "node/pid_table.hpp"
#include "rpc/bifs.hpp"

#include <algorithm>
#include <chrono>
#include <optional>

namespace esp::served {

namespace {

const atom erlang("erlang");

term ask(call_context& c, const char* function, std::string_view what) {
  return call(c, erlang, atom(function), {atom(what)});
}

term pair(std::string_view key, term value) {
  return term::tuple({atom(key), std::move(value)});
}

term own_version() {
  return term::tuple({atom("ok"), term::string("1.19")});
}

term sys_info(call_context& c) {
  static const atom system_info("system_info"), memory("memory");
  static constexpr std::string_view of_cpus[] = {
      "logical_processors", "logical_processors_online",
      "logical_processors_available", "schedulers", "schedulers_online"};
  static constexpr std::string_view of_system[] = {
      "otp_release", "version",     "system_architecture", "kernel_poll",
      "smp_support", "threads",     "thread_pool_size"};
  static constexpr std::string_view of_limits[] = {
      "process_count", "atom_limit", "atom_count", "process_limit",
      "process_count", "port_limit", "port_count", "ets_limit",
      "ets_count",     "dist_buf_busy_limit"};
  const term io = ask(c, "statistics", "io");
  std::vector<term> all{
      pair("uptime", ask(c, "statistics", "wall_clock").element(0)),
      pair("run_queue", ask(c, "statistics", "run_queue")),
      pair("io_input", io.element(0).element(1)),
      pair("io_output", io.element(1).element(1))};
  const auto add = [&](auto& items) {
    for (const auto i : items)
      all.push_back(pair(i, ask(c, "system_info", i)));
  };
  add(of_cpus);
  all.push_back(pair("schedulers_available",
                     ask(c, "system_info", "schedulers_online")));
  add(of_system);
  for (const char* which : {"internal", "external"})
    all.push_back(pair(std::string("wordsize_") + which,
                       call(c, erlang, system_info,
                            {pair("wordsize", atom(which))})));
  all.push_back(pair(
      "alloc_info",
      call(c, erlang, system_info,
           {pair("allocator_sizes",
                 ask(c, "system_info", "alloc_util_allocators"))})));
  add(of_limits);
  const auto sizes = call(c, erlang, memory, {}).as_list();
  all.insert(all.end(), sizes->begin(), sizes->end());
  return term::list(all);
}

// As `!`, which is badarg if there is nobody of that name here.
void send_to(call_context& c, const term& to, const term& message) {
  const auto who = destination_of(to);
  if (const auto* name = std::get_if<atom>(&who);
      name != nullptr && !c.home.whereis(*name))
    badarg();
  esp::send(who, message);
}

// {etop_proc_info, Pid, Memory, Reductions, Name | InitialCall, Runtime,
// CurrentFunction, MessageQueueLen}; none of one that has ended meanwhile.
std::optional<term> proc_info(call_context& c, const node::process& p) {
  static const atom tag("etop_proc_info"), process_info("process_info");
  static const term items = term::list(
      {atom("registered_name"), atom("initial_call"), atom("memory"),
       atom("reductions"), atom("current_function"),
       atom("message_queue_len")});
  const auto info = call(c, erlang, process_info, {p.pid(), items}).as_list();
  if (!info)
    return std::nullopt;
  const auto value = [&](std::size_t i) { return (*info)[i].element(1); };
  return term::tuple({tag, p.pid(), value(2), value(3),
                      value(0) == term() ? value(1) : value(0), integer(0),
                      value(4), value(5)});
}

std::vector<node::process_ptr> others(const call_context& c) {
  auto all = c.home.table().all();
  std::erase_if(all, [&](const node::process_ptr& p) {
    return p.get() == &c.self || !p->is_alive();
  });
  return all;
}

// At most so many in a message: the last one has fewer, and may have none.
term procs_info(call_context& c, const term& collector) {
  static const atom tag("procs_info");
  constexpr std::size_t chunk = 10'000;
  const auto all = others(c);
  for (std::size_t at = 0;; at += chunk) {
    std::vector<term> some;
    const std::size_t end = std::min(all.size(), at + chunk);
    for (std::size_t i = at; i < end; ++i)
      if (auto info = proc_info(c, *all[i]))
        some.push_back(*std::move(info));
    send_to(c, collector, term::tuple({tag, self(), term::list(some)}));
    if (end - at < chunk)
      return tag;
  }
}

term timestamp() {
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(
                      std::chrono::system_clock::now().time_since_epoch())
                      .count();
  return term::tuple({term::integer(us / 1'000'000'000'000),
                      term::integer(us / 1'000'000 % 1'000'000),
                      term::integer(us % 1'000'000)});
}

// A record of etop's: {etop_info, Now, NProcs, WallClock, Runtime, RunQueue,
// AllocAreas, Memory, ProcInfo}.
term etop_collect(call_context& c, const term& collector) {
  static const atom tag("etop_info"), ok("ok");
  std::vector<term> procs, memory;
  for (const auto& p : others(c))
    if (auto info = proc_info(c, *p))
      procs.push_back(*std::move(info));
  for (const char* kind :
       {"total", "processes", "ets", "atom", "code", "binary"})
    memory.push_back(pair(kind, ask(c, "memory", kind)));
  send_to(c, collector,
          term::tuple({self(),
                       term::tuple({tag, timestamp(), integer(procs.size()),
                                    atom("undefined"),
                                    ask(c, "statistics", "scheduler_wall_time"),
                                    ask(c, "statistics", "run_queue"), term(),
                                    term::list(memory), term::list(procs)})}));
  return ok;
}

// No client can have a worker do nothing else.
constexpr milliseconds shortest_interval{10};
constexpr std::int64_t longest_timeout = 0xFFFF'FFFF; // of `after`

milliseconds interval_of(const term& t) {
  static const atom timeout_value("timeout_value");
  if (t.is_atom("infinity"))
    return infinity;
  const auto ms = t.as_integer();
  if (!ms || *ms < 0 || *ms > longest_timeout)
    throw raised(exception_class::error, timeout_value);
  return std::max(milliseconds(*ms), shortest_interval);
}

// Until any message comes. That the client has ended is one, too: who was not
// linked to it would else go on for ever.
term fetch_stats(call_context& c, const term& client, const term& time) {
  static const atom tag("stats"), ok("ok"), memory("memory");
  const auto interval = interval_of(time);
  esp::trap_exit(true);
  (void)esp::monitor(destination_of(client));
  while (!esp::receive([](const term&) { return true; }, interval))
    send_to(c, client,
            term::tuple({tag, integer(1),
                         ask(c, "statistics", "scheduler_wall_time"),
                         ask(c, "statistics", "io"),
                         call(c, erlang, memory, {})}));
  return ok;
}

// There are no tables, and there is no mnesia.
term get_table_list(const call_context& c, const term& type) {
  if (type.is_atom("ets"))
    return term();
  if (!type.is_atom("mnesia"))
    function_clause();
  throw raised(
      exception_class::thrown,
      pair("error", term::string("Mnesia is not running on: "
                                 + std::string(c.home.name().name()))));
}

// A process that sends what is in a table, and the end of it: of one that has
// gone, at once.
term get_table(const term& parent, const term& type) {
  const auto to = parent.as_pid();
  if (!to || !type.is_atom("ets"))
    badarg();
  return esp::spawn([to = *to] {
    static const atom end("$end_of_table");
    esp::link(to);
    esp::send(to, term::tuple({esp::self(), end}));
  });
}

// Of module socket, which has none here: a connection is no more a socket of
// that module than a port.
term socket_info() {
  std::vector<term> all{pair("iov_max", integer(1'024))};
  all.push_back(pair("num_cnt_bits", integer(64)));
  for (const char* counter :
       {"num_monitors", "num_dinet", "num_dinet6", "num_dlocal", "num_pip",
        "num_psctp", "num_ptcp", "num_pudp", "num_sockets", "num_tdgrams",
        "num_tseqpkgs", "num_tstreams"})
    all.push_back(pair(counter, integer(0)));
  return term::list(all);
}

} // namespace

void add_observer_backend(function_table& t) {
  const auto add = [&t](std::string_view name, unsigned arity, function f) {
    t.add("observer_backend", name, arity, std::move(f), effect::looks);
  };
  const auto nothing = [](call_context&, arguments) { return term(); };
  add("vsn", 0, [](call_context&, arguments) { return own_version(); });
  add("sys_info", 0, [](call_context& c, arguments) { return sys_info(c); });
  add("procs_info", 1,
      [](call_context& c, arguments a) { return procs_info(c, a[0]); });
  add("etop_collect", 1,
      [](call_context& c, arguments a) { return etop_collect(c, a[0]); });
  add("fetch_stats", 2,
      [](call_context& c, arguments a) { return fetch_stats(c, a[0], a[1]); });
  add("get_port_list", 0, nothing);
  add("get_socket_list", 0, nothing);
  add("socket_info", 0, [](call_context&, arguments) { return socket_info(); });
  add("get_table_list", 2,
      [](call_context& c, arguments a) { return get_table_list(c, a[0]); });
  add("get_table", 3,
      [](call_context&, arguments a) { return get_table(a[0], a[2]); });
}

} // namespace esp::served
