#include "rpc/offer.hpp"

#include "rpc/bifs.hpp"
#include "rpc/erpc.hpp"
#include "rpc/servers.hpp"
#include "trace/table.hpp"

namespace esp::served {

void offer(node::node& home, function_table& table, trace::table& traces,
           std::function<void()> stop, knowledge more) {
  home.trace_with(&traces);
  add_erlang(table);
  add_process_info(table);
  add_system_info(table);
  add_statistics(table);
  add_code(table, std::move(stop));
  add_observer_backend(table);
  add_appmon_info(table, std::move(more.processes));
  add_seq_trace(table);
  add_trace(table, traces, std::move(more.tasks));
  add_dbg(table, traces);
  add_ttb(table, traces);
  table.know([modules = std::move(more.modules)] {
    static const term preloaded = atom("preloaded");
    auto all = modules();
    for (const char* server : {"logger_proxy", "net_kernel", "rex"})
      all.push_back({atom(server), preloaded, {}});
    return all;
  });
  home.on_spawn_request = [&home, &table](const dist::spawn_request& r) {
    return spawn_for(home, table, r);
  };
}

void start_servers(node::node& home, const function_table& table) {
  home.register_name(atom("net_kernel"), home.spawn<net_kernel>());
  home.register_name(atom("rex"), home.spawn<rex>(table));
}

} // namespace esp::served
