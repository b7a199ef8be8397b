// Writing single terms and headers in the forms of our own: atoms 118 and 119,
// pids 88, references 90, ports 89 where they fit. libei writes the numbers.

#pragma once

#include "esp/term.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace esp::etf {

using buffer = std::vector<std::byte>;

void write_integer(buffer& out, std::int64_t v);
void write_unsigned(buffer& out, std::uint64_t v);
// `magnitude`: least significant byte first, without zeros at its end.
void write_big(buffer& out, std::span<const std::byte> magnitude,
               bool negative);
void write_floating(buffer& out, double v); // finite
void write_atom(buffer& out, std::string_view utf8);
void write_binary(buffer& out, std::span<const std::byte> bytes);
void write_nil(buffer& out);
void write_tuple_header(buffer& out, std::size_t arity);
void write_list_header(buffer& out, std::size_t elements); // 1 or more
void write_map_header(buffer& out, std::size_t pairs);
void write_pid(buffer& out, const pid& p);
void write_ref(buffer& out, const ref& r);
void write_port(buffer& out, const port& p);

} // namespace esp::etf
