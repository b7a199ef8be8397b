// What memory and time the OS process takes, in the terms that Erlang's own
// functions give.

#pragma once

#include "node/node.hpp"

#include <cstdint>
#include <optional>

namespace esp::served {

// In bytes, from the kernel; what the processes themselves take is an estimate,
// since their tasks' states are not ours to measure.
struct usage {
  std::uint64_t resident = 0, code = 0, processes = 0;
};
usage read_usage(const node::node& home);

// erlang:system_info(alloc_util_allocators): that of the C library.
term allocators();
// erlang:system_info({allocator_sizes, Which}), of one allocator or a list;
// none if there is no such. Nobody keeps a maximum: it is what is there now.
std::optional<term> allocator_sizes(const term& which);

// Since some point in the past, as erlang:system_info(start_time) has it.
std::uint64_t start_time_ns();
std::uint64_t since_start_ns();

} // namespace esp::served
