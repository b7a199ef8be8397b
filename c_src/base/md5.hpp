// MD5, which distribution's handshake and code:module_md5/1 are made of. Not for
// what has to be kept secret.

#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace esp::base {

using md5_digest = std::array<std::byte, 16>;

md5_digest md5(std::span<const char> bytes);

} // namespace esp::base
