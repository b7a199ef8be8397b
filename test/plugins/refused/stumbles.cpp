// Throws before it is done, and no std::exception.

#include <esp/plugin.hpp>
#include <esp/rpc.hpp>

ESP_PLUGIN(stumbles, "1.0.0") {
  esp::expose("innocent", "first", [] { return 1; });
  throw 42;
}
