#include "node/pid_table.hpp"
#include "rpc/bifs.hpp"
#include "rpc/measures.hpp"
#include "term/atom_table.hpp"

#include <unistd.h>

#include <algorithm>
#include <functional>
#include <string>
#include <thread>

namespace esp::served {

namespace {

using reader = term (*)(const call_context&);

term none(const call_context&) { return integer(0); }
term yes(const call_context&) { return boolean(true); }
term no(const call_context&) { return boolean(false); }
term undefined(const call_context&) { return atom("undefined"); }
term empty(const call_context&) { return term(); }

term processors(const call_context&) {
  return integer(std::max(1u, std::thread::hardware_concurrency()));
}
term schedulers(const call_context& c) {
  return integer(c.home.workers().config().workers);
}
term word_size(const call_context&) { return integer(sizeof(void*)); }

term pair(std::string_view key, term value) {
  return term::tuple({atom(key), std::move(value)});
}

// Of processes that have no heap.
term no_garbage_collection(const call_context&) {
  return term::list({pair("max_heap_size", integer(0)),
                     pair("min_bin_vheap_size", integer(0)),
                     pair("min_heap_size", integer(0)),
                     pair("fullsweep_after", integer(0))});
}

// Ports and tables there are none of; their limits are a BEAM's, and not 0,
// since observer shows a count as a part of its limit.
struct {
  std::string_view name;
  reader value;
} const items[] = {
    {"alloc_util_allocators",
     [](const call_context&) { return allocators(); }},
    {"atom_count",
     [](const call_context&) { return integer(etf::atom_count()); }},
    {"atom_limit", [](const call_context&) { return integer(etf::max_atoms); }},
    {"build_type", [](const call_context&) -> term { return atom("opt"); }},
    {"compat_rel", [](const call_context&) { return integer(25); }},
    {"cpu_topology", undefined},
    {"creation",
     [](const call_context& c) { return integer(c.home.creation()); }},
    {"debug_compiled", no},
    {"dirty_cpu_schedulers", none},
    {"dirty_cpu_schedulers_online", none},
    {"dirty_io_schedulers", none},
    {"dist_buf_busy_limit",
     [](const call_context& c) { return integer(c.home.high_water()); }},
    {"dynamic_trace", [](const call_context&) -> term { return atom("none"); }},
    {"dynamic_trace_probes", no},
    {"emu_type", [](const call_context&) -> term { return atom("opt"); }},
    {"ets_count", none},
    {"ets_limit", [](const call_context&) { return integer(8'192); }},
    {"fullsweep_after",
     [](const call_context&) { return pair("fullsweep_after", integer(0)); }},
    {"garbage_collection", no_garbage_collection},
    {"kernel_poll", yes},
    {"logical_processors", processors},
    {"logical_processors_available", processors},
    {"logical_processors_online", processors},
    {"machine", [](const call_context&) { return term::string("ESP"); }},
    {"max_heap_size", [](const call_context&) { return max_heap_size(); }},
    {"message_queue_data",
     [](const call_context&) -> term { return atom("off_heap"); }},
    {"min_bin_vheap_size",
     [](const call_context&) {
       return pair("min_bin_vheap_size", integer(0));
     }},
    {"min_heap_size",
     [](const call_context&) { return pair("min_heap_size", integer(0)); }},
    {"modified_timing_level", undefined},
    {"multi_scheduling",
     [](const call_context&) -> term { return atom("enabled"); }},
    {"multi_scheduling_blockers", empty},
    {"normal_multi_scheduling_blockers", empty},
    // Whose protocol this is.
    {"otp_release", [](const call_context&) { return term::string("25"); }},
    {"port_count", none},
    {"port_limit", [](const call_context&) { return integer(65'536); }},
    {"port_parallelism", no},
    {"process_count",
     [](const call_context& c) { return integer(c.home.table().size()); }},
    {"process_limit",
     [](const call_context&) {
       return integer(node::pid_table::max_processes);
     }},
    {"scheduler_bind_type",
     [](const call_context&) -> term { return atom("unbound"); }},
    {"schedulers", schedulers},
    {"schedulers_online", schedulers},
    {"smp_support", yes},
    {"start_time",
     [](const call_context&) { return integer(start_time_ns()); }},
    {"system_architecture",
     [](const call_context&) { return term::string("x86_64-pc-linux-gnu"); }},
    {"system_logger",
     [](const call_context&) -> term { return atom("logger"); }},
    {"system_version",
     [](const call_context& c) {
       const std::string n = std::to_string(c.home.workers().config().workers);
       return term::string("Erlang/SP " ESP_VERSION " [64-bit] [smp:" + n + ":"
                           + n + "]\n");
     }},
    {"thread_pool_size", none},
    {"threads", yes},
    {"trace_control_word", none},
    {"version", [](const call_context&) { return term::string("13.1.5"); }},
    {"wordsize", word_size},
};

term system_info(const call_context& c, const term& what) {
  for (const auto& i : items)
    if (what.is_atom(i.name))
      return i.value(c);
  if (what.is_tagged("wordsize", 2)
      && (what.element(1).is_atom("internal")
          || what.element(1).is_atom("external")))
    return word_size(c);
  if (what.is_tagged("cpu_topology", 2))
    return undefined(c);
  if (what.is_tagged("allocator_sizes", 2))
    if (const auto sizes = allocator_sizes(what.element(1)))
      return *sizes;
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
}

} // namespace esp::served
