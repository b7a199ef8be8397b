#include "match/functions.hpp"

#include "match/number.hpp"
#include "match/order.hpp"
#include "match/parts.hpp"

#include <cmath>
#include <cstring>
#include <string>

namespace esp::match {

namespace {

using args = std::span<const term>;
using value = std::optional<term>;

term boolean(bool b) {
  static const term yes = atom("true"), no = atom("false");
  return b ? yes : no;
}
term count(std::uint64_t n) {
  return term::integer(static_cast<std::int64_t>(n));
}
etf::head head_of(const term& t) { return etf::read(begin_of(t)); }

// ---- Arithmetic ------------------------------------------------------------

// Beyond it is system_limit, long before memory is.
constexpr unsigned most_bits = 1u << 20;

// Of an operand, too: what comes from outside may be of any size.
std::optional<number> operand(const term& t) {
  const auto h = head_of(t);
  return h.what == etf::form::big && h.count > most_bits / 8 ? std::nullopt
                                                             : number_at(h);
}
std::optional<integer> integer_operand(const term& t) {
  auto n = operand(t);
  if (!n || !std::holds_alternative<integer>(*n))
    return std::nullopt;
  return std::get<integer>(*std::move(n));
}

value made(const number& n) {
  if (const auto* f = std::get_if<double>(&n)) {
    if (!std::isfinite(*f))
      return std::nullopt;
  } else if (const auto& i = std::get<integer>(n);
             i != 0 && msb(i < 0 ? integer(-i) : i) >= most_bits) {
    return std::nullopt;
  }
  return to_term(n);
}

std::optional<double> float_of(const number& n) {
  if (const auto* f = std::get_if<double>(&n))
    return *f;
  return to_float(std::get<integer>(n));
}

template <class Op>
value calculate(args a, Op op) {
  const auto x = operand(a[0]), y = operand(a[1]);
  if (!x || !y)
    return std::nullopt;
  if (x->index() == 0 && y->index() == 0)
    return made(integer(op(std::get<integer>(*x), std::get<integer>(*y))));
  const auto f = float_of(*x), g = float_of(*y);
  if (!f || !g)
    return std::nullopt;
  return made(op(*f, *g));
}

template <class Op>
value on_integers(args a, Op op) {
  const auto x = integer_operand(a[0]), y = integer_operand(a[1]);
  if (!x || !y)
    return std::nullopt;
  return op(*x, *y);
}

value divide(const caller&, args a) {
  const auto x = operand(a[0]), y = operand(a[1]);
  if (!x || !y)
    return std::nullopt;
  const auto f = float_of(*x), g = float_of(*y);
  if (!f || !g || *g == 0)
    return std::nullopt;
  return made(*f / *g);
}

// Of a negative number it is that of its infinite two's complement.
value shift(const integer& i, const integer& by) {
  if (i == 0 || by == 0)
    return made(i);
  const bool is_left = by > 0;
  const integer n = is_left ? by : integer(-by);
  if (n >= most_bits) {
    if (is_left)
      return std::nullopt;
    return term::integer(i < 0 ? -1 : 0);
  }
  const auto k = n.convert_to<unsigned>();
  if (is_left)
    return made(integer(i << k));
  if (i > 0)
    return made(integer(i >> k));
  return made(integer(-((-i - 1) >> k) - 1));
}

value rounded(const caller&, args a) {
  const auto n = operand(a[0]);
  if (!n)
    return std::nullopt;
  if (const auto* f = std::get_if<double>(&*n))
    return made(truncated(std::round(*f)));
  return a[0];
}

value cut(const caller&, args a) {
  const auto n = operand(a[0]);
  if (!n)
    return std::nullopt;
  if (const auto* f = std::get_if<double>(&*n))
    return made(truncated(*f));
  return a[0];
}

value absolute(const caller&, args a) {
  auto n = operand(a[0]);
  if (!n)
    return std::nullopt;
  if (auto* f = std::get_if<double>(&*n))
    return made(std::fabs(*f));
  const auto& i = std::get<integer>(*n);
  return i < 0 ? made(integer(-i)) : value(a[0]);
}

value negated(const caller&, args a) {
  const auto n = operand(a[0]);
  if (!n)
    return std::nullopt;
  if (const auto* f = std::get_if<double>(&*n))
    return made(-*f);
  return made(integer(-std::get<integer>(*n)));
}

value to_floating(const caller&, args a) {
  const auto n = operand(a[0]);
  const auto f = n ? float_of(*n) : std::nullopt;
  return f ? value(term::floating(*f)) : std::nullopt;
}

// ---- Taking apart ----------------------------------------------------------

value element(const caller&, args a) {
  const auto n = a[0].as_integer();
  if (!n || a[1].kind() != kind::tuple || *n < 1
      || static_cast<std::uint64_t>(*n) > a[1].arity())
    return std::nullopt;
  return a[1].element(static_cast<std::size_t>(*n - 1));
}

value head(const caller&, args a) {
  if (a[0].kind() != kind::list)
    return std::nullopt;
  return at(list_parts(begin_of(a[0])).elements.front());
}

value tail(const caller&, args a) {
  if (a[0].kind() != kind::list)
    return std::nullopt;
  const list_parts parts(begin_of(a[0]));
  std::vector<term> rest;
  for (std::size_t i = 1; i < parts.elements.size(); ++i)
    rest.push_back(at(parts.elements[i]));
  return rest.empty() ? at(parts.tail) : term::list(rest, at(parts.tail));
}

value length(const caller&, args a) {
  if (a[0].kind() == kind::nil)
    return count(0);
  const list_parts parts(begin_of(a[0]));
  if (parts.elements.empty() || !parts.is_proper())
    return std::nullopt;
  return count(parts.elements.size());
}

bool is_bits(const etf::head& h) noexcept {
  return h.what == etf::form::binary || h.what == etf::form::bits;
}
std::uint64_t whole_bytes(const etf::head& h) noexcept {
  return h.what == etf::form::bits ? h.count - 1 : h.count;
}
std::uint64_t bits(const etf::head& h) noexcept {
  return h.what == etf::form::bits ? 8 * (h.count - 1) + h.last_bits
                                   : 8 * h.count;
}

value size(const caller&, args a) {
  if (a[0].kind() == kind::tuple)
    return count(a[0].arity());
  const auto h = head_of(a[0]);
  return is_bits(h) ? value(count(whole_bytes(h))) : std::nullopt;
}

value byte_size(const caller&, args a) {
  const auto h = head_of(a[0]);
  return is_bits(h) ? value(count(h.count)) : std::nullopt;
}

value bit_size(const caller&, args a) {
  const auto h = head_of(a[0]);
  return is_bits(h) ? value(count(bits(h))) : std::nullopt;
}

value part(const term& of, const term& from, const term& length) {
  const auto h = head_of(of);
  const auto at = from.as_integer(), n = length.as_integer();
  if (!is_bits(h) || !at || !n)
    return std::nullopt;
  const auto size = static_cast<std::int64_t>(whole_bytes(h));
  if (*at < 0 || *at > size || *n > size - *at || *n < -*at)
    return std::nullopt;
  const auto* const first = reinterpret_cast<const char*>(h.body)
                            + (*n < 0 ? *at + *n : *at);
  return term::binary({first, static_cast<std::size_t>(*n < 0 ? -*n : *n)});
}

value binary_part_2(const caller&, args a) {
  if (a[1].kind() != kind::tuple || a[1].arity() != 2)
    return std::nullopt;
  return part(a[0], a[1].element(0), a[1].element(1));
}

value node_of(const caller&, args a) {
  if (const auto p = a[0].as_pid())
    return p->node;
  if (const auto r = a[0].as_ref())
    return r->node;
  if (const auto p = a[0].as_port())
    return p->node;
  return std::nullopt;
}

value is_record(const caller&, args a) {
  if (a[1].kind() != kind::atom || a[2].kind() != kind::integer)
    return std::nullopt;
  return boolean(a[0].kind() == kind::tuple
                 && a[2].as_integer()
                        == static_cast<std::int64_t>(a[0].arity())
                 && a[0].arity() > 0 && a[0].element(0) == a[1]);
}

std::optional<bool> truth(const term& t) {
  if (t.is_atom("true"))
    return true;
  if (t.is_atom("false"))
    return false;
  return std::nullopt;
}

template <kind K>
value is(const caller&, args a) {
  return boolean(a[0].kind() == K);
}

const struct {
  std::string_view name;
  std::size_t arity;
  function call;
} all[] = {
    {"is_atom", 1, is<kind::atom>},
    {"is_binary", 1, is<kind::binary>},
    {"is_float", 1, is<kind::floating>},
    {"is_function", 1, is<kind::fun>},
    {"is_integer", 1, is<kind::integer>},
    {"is_map", 1, is<kind::map>},
    {"is_pid", 1, is<kind::pid>},
    {"is_port", 1, is<kind::port>},
    {"is_reference", 1, is<kind::ref>},
    {"is_tuple", 1, is<kind::tuple>},
    {"is_list", 1,
     [](const caller&, args a) -> value {
       return boolean(a[0].kind() == kind::list || a[0].kind() == kind::nil);
     }},
    {"is_number", 1,
     [](const caller&, args a) -> value {
       return boolean(a[0].kind() == kind::integer
                      || a[0].kind() == kind::floating);
     }},
    {"is_record", 3, is_record},
    {"is_map_key", 2,
     [](const caller&, args a) -> value {
       if (a[1].kind() != kind::map)
         return std::nullopt;
       return boolean(a[1].get(a[0]).has_value());
     }},

    {"abs", 1, absolute},
    {"element", 2, element},
    {"hd", 1, head},
    {"tl", 1, tail},
    {"length", 1, length},
    {"map_get", 2,
     [](const caller&, args a) -> value {
       return a[1].kind() == kind::map ? a[1].get(a[0]) : std::nullopt;
     }},
    {"map_size", 1,
     [](const caller&, args a) -> value {
       if (a[0].kind() != kind::map)
         return std::nullopt;
       return count(a[0].arity());
     }},
    {"node", 0, [](const caller& c, args) -> value { return c.node; }},
    {"node", 1, node_of},
    {"self", 0, [](const caller& c, args) -> value { return c.self; }},
    {"round", 1, rounded},
    {"trunc", 1, cut},
    {"float", 1, to_floating},
    {"size", 1, size},
    {"byte_size", 1, byte_size},
    {"bit_size", 1, bit_size},
    {"binary_part", 2, binary_part_2},
    {"binary_part", 3,
     [](const caller&, args a) { return part(a[0], a[1], a[2]); }},

    {"+", 1,
     [](const caller&, args a) {
       return operand(a[0]) ? value(a[0]) : std::nullopt;
     }},
    {"-", 1, negated},
    {"+", 2,
     [](const caller&, args a) {
       return calculate(a, [](const auto& x, const auto& y) { return x + y; });
     }},
    {"-", 2,
     [](const caller&, args a) {
       return calculate(a, [](const auto& x, const auto& y) { return x - y; });
     }},
    {"*", 2,
     [](const caller&, args a) {
       return calculate(a, [](const auto& x, const auto& y) { return x * y; });
     }},
    {"/", 2, divide},
    {"div", 2,
     [](const caller&, args a) {
       return on_integers(a, [](const integer& x, const integer& y) {
         return y == 0 ? std::nullopt : made(integer(x / y));
       });
     }},
    {"rem", 2,
     [](const caller&, args a) {
       return on_integers(a, [](const integer& x, const integer& y) {
         return y == 0 ? std::nullopt : made(integer(x % y));
       });
     }},
    {"band", 2,
     [](const caller&, args a) {
       return on_integers(a, [](const integer& x, const integer& y) {
         return made(integer(x & y));
       });
     }},
    {"bor", 2,
     [](const caller&, args a) {
       return on_integers(a, [](const integer& x, const integer& y) {
         return made(integer(x | y));
       });
     }},
    {"bxor", 2,
     [](const caller&, args a) {
       return on_integers(a, [](const integer& x, const integer& y) {
         return made(integer(x ^ y));
       });
     }},
    {"bnot", 1,
     [](const caller&, args a) -> value {
       const auto i = integer_operand(a[0]);
       return i ? made(integer(-*i - 1)) : std::nullopt;
     }},
    {"bsl", 2, [](const caller&, args a) { return on_integers(a, shift); }},
    {"bsr", 2,
     [](const caller&, args a) {
       return on_integers(a, [](const integer& x, const integer& y) {
         return shift(x, -y);
       });
     }},

    {"=:=", 2,
     [](const caller&, args a) -> value { return boolean(a[0] == a[1]); }},
    {"=/=", 2,
     [](const caller&, args a) -> value { return boolean(a[0] != a[1]); }},
    {"==", 2,
     [](const caller&, args a) -> value {
       return boolean(compare(a[0], a[1]) == 0);
     }},
    {"/=", 2,
     [](const caller&, args a) -> value {
       return boolean(compare(a[0], a[1]) != 0);
     }},
    {"<", 2,
     [](const caller&, args a) -> value {
       return boolean(compare(a[0], a[1]) < 0);
     }},
    {"=<", 2,
     [](const caller&, args a) -> value {
       return boolean(compare(a[0], a[1]) <= 0);
     }},
    {">", 2,
     [](const caller&, args a) -> value {
       return boolean(compare(a[0], a[1]) > 0);
     }},
    {">=", 2,
     [](const caller&, args a) -> value {
       return boolean(compare(a[0], a[1]) >= 0);
     }},
    {"not", 1,
     [](const caller&, args a) -> value {
       const auto t = truth(a[0]);
       return t ? value(boolean(!*t)) : std::nullopt;
     }},
    {"xor", 2,
     [](const caller&, args a) -> value {
       const auto x = truth(a[0]), y = truth(a[1]);
       return x && y ? value(boolean(*x != *y)) : std::nullopt;
     }},
};

} // namespace

function find_function(std::string_view name, std::size_t arity) noexcept {
  for (const auto& f : all)
    if (f.name == name && f.arity == arity)
      return f.call;
  return nullptr;
}

} // namespace esp::match
