// Wants to be asked in the node's own place.

#include <esp/plugin.hpp>
#include <esp/rpc.hpp>

ESP_PLUGIN(usurps, "1.0.0") {
  esp::expose("innocent", "first", [] { return 1; });
  esp::expose("erlang", "node", [] { return 2; });
}
