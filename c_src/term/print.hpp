// Terms in Erlang syntax, for logs and people.

#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace esp::etf {

// As io_lib's ~0tp prints the accepted term at `p`, on one line; identifiers
// name their node (<a@h.9.0>, #Ref<a@h.1.2.3>, #Port<a@h.5>). Cut to about
// `limit` bytes, with "..." at the end. Neither time nor memory exceeds what
// is printed, however deep the term.
std::string print(const std::byte* p, std::size_t limit);

// The decimal text of an integer, its magnitude least significant byte first.
// Takes quadratic time.
std::string decimal(std::span<const std::byte> magnitude, bool negative);

} // namespace esp::etf
