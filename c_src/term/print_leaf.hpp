// Single terms in Erlang syntax, appended to a text.

#pragma once

#include "term/print.hpp"
#include "term/read.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace esp::etf {

// A character that ~p shows as such between quotes.
bool is_printable(std::int64_t c) noexcept;
void print_text(std::string& out, std::string_view latin1); // in quotes
void print_atom(std::string& out, const atom_bytes& a);
void print_float(std::string& out, double v);
// What exceeds `limit` may be left out.
void print_big(std::string& out, const head& h, std::size_t limit);
void print_binary(std::string& out, const head& h, std::size_t limit);
void print_identifier(std::string& out, const head& h); // pid, port, ref

} // namespace esp::etf
