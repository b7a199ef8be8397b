// Erlang's order of terms: number < atom < reference < fun < port < pid <
// tuple < map < nil < list < bit string.

#pragma once

#include "esp/term.hpp"

namespace esp::match {

// Below, equal to or above 0. Equal is `==`: 1 and 1.0 are equal, but not as
// keys of maps.
int compare(const term& a, const term& b);

} // namespace esp::match
