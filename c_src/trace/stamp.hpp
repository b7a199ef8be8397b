// The time of an event, by the flags of who is told.

#pragma once

#include "trace/flags.hpp"

#include <optional>

namespace esp::trace {

std::optional<term> stamp(flags f);

} // namespace esp::trace
