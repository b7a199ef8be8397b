// One function twice, and nobody could say which of them is meant.

#include <esp/plugin.hpp>
#include <esp/rpc.hpp>

ESP_PLUGIN(repeats, "1.0.0") {
  esp::expose("innocent", "first", [](int) { return 1; });
  esp::expose("innocent", "first", [](bool) { return 2; });
}
