// How two nodes prove to each other that they know the same cookie without
// sending it: MD5 over the cookie and the other side's challenge.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace esp::dist {

using digest = std::array<std::byte, 16>;

// MD5(Cookie ++ integer_to_list(Challenge)), the challenge as unsigned.
digest challenge_digest(std::string_view cookie, std::uint32_t challenge);

// Takes the same time wherever the two differ, so that a stranger learns
// nothing from how fast he is refused. False too if the lengths differ.
bool is_same_digest(std::span<const std::byte> a,
                    std::span<const std::byte> b) noexcept;

} // namespace esp::dist
