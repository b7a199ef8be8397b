// What tells the contents of one file from another's, as of Erlang's modules:
// code:module_md5/1.

#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace esp::plugin {

using md5_digest = std::array<std::byte, 16>;

md5_digest md5(std::span<const char> bytes);

} // namespace esp::plugin
