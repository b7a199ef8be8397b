#include "match/number.hpp"

#include "esp/big_int.hpp"
#include "esp/codec.hpp"

#include <cmath>
#include <iterator>
#include <vector>

namespace esp::match {

namespace mp = boost::multiprecision;

std::optional<number> number_at(const etf::head& h) {
  if (h.what == etf::form::integer)
    return number(integer(h.integer));
  if (h.what == etf::form::floating)
    return number(h.floating);
  if (h.what != etf::form::big)
    return std::nullopt;
  integer i;
  const auto* const first = reinterpret_cast<const unsigned char*>(h.body);
  mp::import_bits(i, first, first + h.count, 8, false);
  if (h.is_negative)
    i = -i;
  return number(std::move(i));
}

std::optional<integer> integer_of(const term& t) {
  auto n = number_of(t);
  if (!n || !std::holds_alternative<integer>(*n))
    return std::nullopt;
  return std::get<integer>(*std::move(n));
}

term to_term(const number& n) {
  if (const auto* f = std::get_if<double>(&n))
    return term::floating(*f);
  const auto& i = std::get<integer>(n);
  std::vector<unsigned char> magnitude;
  mp::export_bits(i < 0 ? integer(-i) : i, std::back_inserter(magnitude), 8,
                  false);
  return esp::to_term(
      big_int(std::as_bytes(std::span(magnitude)), i < 0));
}

std::optional<double> to_float(const integer& i) {
  const double f = i.convert_to<double>();
  return std::isfinite(f) ? std::optional(f) : std::nullopt;
}

integer truncated(double f) {
  return integer(std::trunc(f));
}

int compare(const number& a, const number& b) {
  const auto sign = [](const auto& x, const auto& y) {
    return x < y ? -1 : x > y ? 1 : 0;
  };
  if (a.index() == b.index())
    return a.index() == 0
               ? sign(std::get<integer>(a), std::get<integer>(b))
               : sign(std::get<double>(a), std::get<double>(b));
  if (a.index() == 1)
    return -compare(b, a);
  // No float between two integers is lost: the whole part decides, then the
  // rest does.
  const double f = std::get<double>(b);
  const int whole = sign(std::get<integer>(a), truncated(f));
  return whole != 0 ? whole : sign(0.0, f - std::trunc(f));
}

} // namespace esp::match
