// Copies of terms in other forms.

#pragma once

#include "esp/term.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace esp::etf {

// A copy of an accepted term without cache references (`cached` holds what
// they stand for), with atoms in UTF-8, and without forms that newer nodes
// refuse.
std::vector<std::byte> normalize(std::span<const std::byte> accepted,
                                 std::span<const atom> cached = {});

// The term as a peer without V4_NC (OTP 23) can read it: ports 120 become 89
// where the number fits. Such a peer drops the connection over what does not
// fit (ids above 28 bits, pids above 15 + 13 bits, references above 3 words):
// that is an error, badarg, and the signal must not be sent. A term that needs
// no change comes back as it is, sharing its bytes.
result<term> narrow(const term& t);

} // namespace esp::etf
