// Erlang's numbers, to calculate with and to compare. For the sources of this
// room: the header brings Boost.Multiprecision.

#pragma once

#include "esp/term.hpp"

#include "match/parts.hpp"

#include <boost/multiprecision/cpp_int.hpp>

#include <optional>
#include <variant>

namespace esp::match {

using integer = boost::multiprecision::cpp_int;
using number = std::variant<integer, double>;

std::optional<number> number_at(const etf::head& h);
inline std::optional<number> number_of(const term& t) {
  return number_at(etf::read(begin_of(t)));
}
std::optional<integer> integer_of(const term& t);
term to_term(const number& n);
// None beyond what a float holds.
std::optional<double> to_float(const integer& i);
// Towards zero; `f` is finite, as all floats of Erlang's are.
integer truncated(double f);
// By value: 1 and 1.0 are equal.
int compare(const number& a, const number& b);

} // namespace esp::match
