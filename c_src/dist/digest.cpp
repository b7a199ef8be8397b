#include "dist/digest.hpp"

#include "base/md5.hpp"

#include <string>

namespace esp::dist {

digest challenge_digest(std::string_view cookie, std::uint32_t challenge) {
  return base::md5(std::string(cookie) + std::to_string(challenge));
}

bool is_same_digest(std::span<const std::byte> a,
                    std::span<const std::byte> b) noexcept {
  if (a.size() != b.size()) {
    return false;
  }
  volatile unsigned char difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference = difference | std::to_integer<unsigned char>(a[i] ^ b[i]);
  }
  return difference == 0;
}

} // namespace esp::dist
