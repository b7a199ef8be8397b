// What a shared object says it needs, read before any of its code runs.

#pragma once

#include "esp/error.hpp"

#include <filesystem>
#include <string>
#include <vector>

namespace esp::plugin {

// The DT_NEEDED names of a 64-bit ELF shared object. Anything else, or one
// cut short, is `malformed`.
result<std::vector<std::string>> needed_libraries(
    const std::filesystem::path& file);

} // namespace esp::plugin
