// Appending single terms and headers to a buffer that holds other things too,
// such as a frame: atoms as 118 and 119, pids as 88, references as 90. Whole
// terms are built with the encoder of codec.hpp.

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
void write_atom(buffer& out, std::string_view utf8);
void write_binary(buffer& out, std::span<const std::byte> bytes);
void write_nil(buffer& out);
void write_tuple_header(buffer& out, std::size_t arity);
void write_pid(buffer& out, const pid& p);
void write_ref(buffer& out, const ref& r);

} // namespace esp::etf
