// Compressed terms (tag 80): `131, 80, Size:32, zlib stream`.

#pragma once

#include "esp/error.hpp"

#include <cstddef>
#include <limits>
#include <span>
#include <vector>

namespace esp::etf {

// Inflates what follows the tag. The stream must hold exactly the size it
// claims, as OTP demands; bytes after the stream are left alone. More than
// `cap` is too_large, and is never allocated.
result<std::vector<std::byte>>
inflate(std::span<const std::byte> after_tag,
        std::size_t cap = std::numeric_limits<std::size_t>::max());

} // namespace esp::etf
