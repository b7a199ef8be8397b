#include "rpc/offer.hpp"

#include "rpc/bifs.hpp"
#include "rpc/erpc.hpp"
#include "rpc/servers.hpp"

namespace esp::served {

void offer(node::node& home, function_table& table,
           std::function<void()> stop) {
  add_erlang(table);
  add_process_info(table);
  add_system_info(table);
  add_code(table, std::move(stop));
  home.on_spawn_request = [&home, &table](const dist::spawn_request& r) {
    return spawn_for(home, table, r);
  };
}

void start_servers(node::node& home, const function_table& table) {
  home.register_name(atom("net_kernel"), home.spawn<net_kernel>());
  home.register_name(atom("rex"), home.spawn<rex>(table));
}

} // namespace esp::served
