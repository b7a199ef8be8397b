#include <esp/plugin.hpp>

std::int64_t plus2(std::int64_t x) { return x + 2; }

ESP_PLUGIN(hello, "1.0.0") { plugin.task("plus2", plus2); }
