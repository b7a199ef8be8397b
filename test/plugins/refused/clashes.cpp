// A module of plugin `exposes`, though a function that it has not.

#include <esp/plugin.hpp>
#include <esp/rpc.hpp>

ESP_PLUGIN(clashes, "1.0.0") {
  esp::expose("innocent", "first", [] { return 1; });
  esp::expose("words", "first", [] { return 2; });
}
