// The flags of erlang:trace/3.

#pragma once

#include "esp/term.hpp"

#include <cstdint>
#include <optional>

namespace esp::trace {

using flags = std::uint32_t;

namespace flag {
inline constexpr flags send = 1 << 0;
inline constexpr flags receive = 1 << 1;
inline constexpr flags call = 1 << 2;
inline constexpr flags procs = 1 << 3;
inline constexpr flags running = 1 << 4;
inline constexpr flags set_on_spawn = 1 << 5;
inline constexpr flags set_on_first_spawn = 1 << 6;
inline constexpr flags set_on_link = 1 << 7;
inline constexpr flags set_on_first_link = 1 << 8;
inline constexpr flags timestamp = 1 << 9;
inline constexpr flags monotonic_timestamp = 1 << 10;
inline constexpr flags strict_monotonic_timestamp = 1 << 11;
inline constexpr flags arity = 1 << 12;
inline constexpr flags return_to = 1 << 13;
inline constexpr flags silent = 1 << 14;
inline constexpr flags exiting = 1 << 15;
// Of what there is none here, so that none is told of: ports, heaps.
inline constexpr flags ports = 1 << 16;
inline constexpr flags garbage_collection = 1 << 17;
inline constexpr flags running_ports = 1 << 18;
inline constexpr flags all = (1 << 19) - 1;
} // namespace flag

// None: no such flag, or one that cannot be had here.
std::optional<flags> flag_of(const term& name);
term list_of(flags f);

} // namespace esp::trace
