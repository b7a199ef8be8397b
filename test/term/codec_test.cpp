#include "esp/codec.hpp"

#include "term/bytes_of.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>

using esp::atom;
using esp::from_term;
using esp::kind;
using esp::term;
using esp::to_term;
using namespace test;

namespace user {

struct point {
  double x = 0;
  std::int64_t y = 0;
  std::optional<std::string> label;
  std::vector<point> more;

  static constexpr auto fields() {
    return esp::fields(esp::field("x", &point::x), esp::field("y", &point::y),
                       esp::field("label", &point::label),
                       esp::field("more", &point::more));
  }
  bool operator==(const point&) const = default;
};

struct celsius {
  explicit celsius(double d) : degrees(d) {} // no default constructor
  double degrees;
};

} // namespace user

template <>
struct esp::codec<user::celsius> {
  static void encode(encoder& out, const user::celsius& v) {
    esp::encode(out, std::tuple(atom("celsius"), v.degrees));
  }
  static std::optional<user::celsius> decode(decoder& in) {
    auto t = esp::decode<std::tuple<atom, double>>(in);
    if (!t || std::get<0>(*t) != atom("celsius")) {
      return std::nullopt;
    }
    return user::celsius(std::get<1>(*t));
  }
};

namespace {

template <class T>
void comes_back(const T& v) {
  const term t = to_term(v);
  const auto back = from_term<T>(t);
  REQUIRE(back);
  CHECK(*back == v);
  CHECK(esp::encodes_to<T>().contains(t.kind()));
  CHECK(esp::accepts<T>().contains(t.kind()));
  // and through the bytes
  CHECK(from_term<T>(term_of(t.encode())).value() == v);
}

template <class Int>
void edges_come_back() {
  comes_back<Int>(std::numeric_limits<Int>::min());
  comes_back<Int>(std::numeric_limits<Int>::max());
  comes_back<Int>(0);
  comes_back<Int>(1);
}

} // namespace

static_assert(esp::encodable<std::string> && esp::decodable<std::string>);
static_assert(esp::encodable<std::vector<user::point>>);
static_assert(!esp::encodable<int*> && !esp::decodable<int*>);
static_assert(!esp::decodable<std::string_view>);
static_assert(!esp::decodable<std::vector<std::string_view>>);

TEST_CASE("integers of every width come back, up to their edges") {
  edges_come_back<std::int8_t>();
  edges_come_back<std::uint8_t>();
  edges_come_back<std::int16_t>();
  edges_come_back<std::uint16_t>();
  edges_come_back<std::int32_t>();
  edges_come_back<std::uint32_t>();
  edges_come_back<std::int64_t>();
  edges_come_back<std::uint64_t>();
}

TEST_CASE("an integer out of range does not decode") {
  CHECK(!from_term<std::uint8_t>(term::integer(256)));
  CHECK(!from_term<std::int8_t>(term::integer(-129)));
  CHECK(!from_term<std::uint64_t>(term::integer(-1)));
  CHECK(!from_term<std::int64_t>(
      to_term(std::numeric_limits<std::uint64_t>::max())));
}

TEST_CASE("an integer is read whichever way it was written") {
  CHECK(*from_term<int>(term_of(bytes_of(131, 110, 4, 1, 5, 0, 0, 0))) == -5);
  CHECK(*from_term<int>(term_of(
            bytes_of(131, 111, 0, 0, 0, 12, 0, 5, repeat(11, bytes_of(0)))))
        == 5);
  CHECK(*from_term<std::uint64_t>(term_of(
            bytes_of(131, 111, 0, 0, 0, 9, 0, repeat(8, bytes_of(255)), 0)))
        == std::numeric_limits<std::uint64_t>::max());
}

TEST_CASE("a double takes no integer, and an integer no double") {
  CHECK(!from_term<double>(term::integer(1)));
  CHECK(!from_term<int>(term::floating(1)));
  comes_back(1.5);
  comes_back(-0.0);
  comes_back(1.5F);
  CHECK(!from_term<float>(term::floating(1e300)));
  CHECK_THROWS_AS(to_term(std::numeric_limits<double>::infinity()),
                  std::range_error);
}

TEST_CASE("a bool is true or false") {
  CHECK(to_term(true).is_atom("true"));
  CHECK(to_term(false).is_atom("false"));
  comes_back(true);
  CHECK(!from_term<bool>(atom("maybe")));
  CHECK(!from_term<bool>(term::integer(1)));
}

TEST_CASE("integers of any size come back") {
  const term big = term_of(bytes_of(131, 110, 9, 1, repeat(8, bytes_of(0)), 1));
  const auto v = from_term<esp::big_int>(big);
  REQUIRE(v);
  CHECK(v->to_string() == "-18446744073709551616");
  CHECK(!v->to_int64());
  comes_back(*v);
  comes_back(esp::big_int(-7));
  comes_back(esp::big_int(repeat(300, bytes_of(200)), false));
  CHECK(to_term(esp::big_int(-7)) == term::integer(-7));
  CHECK(esp::big_int(-7) < esp::big_int(-6));
  CHECK(*v < esp::big_int(-7));
  CHECK(esp::big_int(std::numeric_limits<std::int64_t>::min()).to_int64()
        == std::numeric_limits<std::int64_t>::min());
  CHECK(esp::big_int(bytes_of(1, 0, 0), true) == esp::big_int(-1));
}

TEST_CASE("a string is a binary, and takes a list of bytes too") {
  CHECK(to_term(std::string("abc")) == term::binary("abc"));
  comes_back(std::string(1000, 'x'));
  CHECK(*from_term<std::string>(term::string("abc")) == "abc");
  CHECK(*from_term<std::string>(term()) == "");
  CHECK(!from_term<std::string>(term::list({term::integer(256)})));
  CHECK(!from_term<std::string>(
      term::list(std::vector{term::integer(65)}, atom("b"))));
  CHECK(!from_term<esp::binary>(term::string("abc")));
  comes_back(esp::binary(5, std::byte{1}));
}

TEST_CASE("a vector is a list, even where Erlang wrote a string") {
  comes_back(std::vector<int>{});
  comes_back(std::vector<int>{1, 1000, -1});
  comes_back(std::vector<std::vector<std::string>>{{}, {"a", "b"}});
  CHECK(*from_term<std::vector<int>>(term::string("ab"))
        == std::vector{97, 98});
  CHECK(from_term<std::vector<term>>(term::string("ab"))->at(1).as_integer()
        == 98);
  CHECK(!from_term<std::vector<bool>>(term::string("ab")));
  CHECK(!from_term<std::vector<int>>(
      term::list(std::vector{term::integer(1)}, term::integer(2))));
  comes_back(std::vector<bool>{true, false});
}

TEST_CASE("tuples and pairs are tuples of that size") {
  comes_back(std::tuple<int, std::string, bool>{1, "x", true});
  comes_back(std::pair<atom, double>{atom("a"), 1.5});
  comes_back(std::tuple<>{});
  CHECK(!from_term<std::pair<int, int>>(esp::make_tuple(1, 2, 3)));
  CHECK(!from_term<std::tuple<int>>(term::list({term::integer(1)})));
}

TEST_CASE("maps are maps") {
  comes_back(std::map<std::string, int>{{"a", 1}, {"b", 2}});
  comes_back(std::unordered_map<atom, std::vector<int>>{{atom("k"), {1}}});
  comes_back(std::map<int, int>{});
}

TEST_CASE("two keys that become one in C++ do not decode: none is lost") {
  const term both = term::map({{term::binary("a"), term::integer(1)},
                               {term::string("a"), term::integer(2)}});
  CHECK(!from_term<std::map<std::string, int>>(both));
}

TEST_CASE("an empty optional is undefined") {
  CHECK(to_term(std::optional<int>{}).is_atom("undefined"));
  comes_back(std::optional<int>{});
  comes_back(std::optional<int>{5});
  CHECK(!from_term<std::optional<int>>(atom("none")));
}

TEST_CASE("a variant is its first alternative that decodes") {
  using either = std::variant<int, std::string, std::vector<int>>;
  comes_back(either{1});
  comes_back(either{"x"});
  // [1000] is no string, [65] is one
  CHECK(from_term<either>(term::list({term::integer(1000)}))->index() == 2);
  CHECK(from_term<either>(term::list({term::integer(65)}))->index() == 1);
  CHECK(!from_term<either>(atom("a")));
}

TEST_CASE("a struct with fields is a map with atoms for keys") {
  const user::point p{1.5, 2, "here", {{0.5, 1, {}, {}}}};
  comes_back(p);
  CHECK(to_term(p).get("y")->as_integer() == 2);
  CHECK(to_term(user::point{}).get("label")->is_atom("undefined"));
}

TEST_CASE("a struct's keys may come in any order, with others between") {
  const term t =
      esp::make_map(atom("more"), std::vector<int>{}, 17, "other", atom("y"), 3,
                    atom("unknown"), esp::make_list(1), atom("x"), 0.5);
  const auto p = from_term<user::point>(t);
  REQUIRE(p);
  CHECK(p->y == 3);
  CHECK(!p->label); // an optional one may be missing
}

TEST_CASE("a struct does not decode without a field, or with a wrong one") {
  CHECK(!from_term<user::point>(esp::make_map(atom("x"), 0.5)));
  CHECK(!from_term<user::point>(esp::make_map(
      atom("x"), 1, atom("y"), 2, atom("more"), std::vector<int>{})));
}

TEST_CASE("a type joins by a codec of its own") {
  const term t = to_term(std::vector{user::celsius(36.6)});
  CHECK(t == esp::make_list(esp::make_tuple(atom("celsius"), 36.6)));
  CHECK(from_term<std::vector<user::celsius>>(t)->at(0).degrees == 36.6);
  CHECK(esp::accepts<user::celsius>() == esp::kind_set::any());
}

TEST_CASE("identifiers and terms pass through") {
  comes_back(esp::pid{atom("a@h"), 1, 2, 3});
  comes_back(esp::ref{atom("a@h"), 1, 5, {1, 2, 3, 4, 5}});
  comes_back(esp::port{atom("a@h"), 1ull << 40, 3});
  comes_back(esp::make_tuple(1, std::string(500, 'x')));
}

TEST_CASE("a term out of a container shares the container's bytes") {
  const term t = esp::make_tuple(1, std::string(500, 'x'));
  const auto parts = from_term<std::pair<int, term>>(t);
  REQUIRE(parts);
  CHECK(parts->second.owner() == t.owner());
}

TEST_CASE("terms of mixed values are built at once") {
  CHECK(esp::make_tuple(atom("ok"), 1, "text", true).to_string()
        == "{ok,1,<<\"text\">>,true}");
  CHECK(esp::make_list().kind() == kind::nil);
  CHECK(esp::make_list(1, 2.5).to_string() == "[1,2.5]");
  CHECK(esp::make_map(atom("a"), 1).to_string() == "#{a => 1}");
}

TEST_CASE("the error of a value of another type shows the term") {
  const auto r = from_term<int>(term::binary("seven"));
  REQUIRE(!r);
  CHECK(r.error().code == esp::errc::badarg);
  CHECK(r.error().what.find("<<\"seven\">>") != std::string::npos);
}

TEST_CASE("what one task emits and the next accepts is told by their types") {
  using esp::accepts;
  using esp::encodes_to;
  CHECK(encodes_to<int>().intersects(accepts<std::int64_t>()));
  CHECK(!encodes_to<int>().intersects(accepts<std::string>()));
  CHECK(!encodes_to<int>().intersects(accepts<double>()));
  CHECK(encodes_to<std::vector<int>>().intersects(accepts<std::string>()));
  CHECK(encodes_to<std::optional<int>>().intersects(accepts<atom>()));
  CHECK(encodes_to<std::variant<int, std::string>>().intersects(
      accepts<std::string>()));
  CHECK(encodes_to<user::point>().intersects(accepts<std::map<atom, int>>()));
  CHECK(accepts<term>() == esp::kind_set::any());
  CHECK(esp::kind_set().empty());
}

TEST_CASE("long terms outgrow the encoder's own room unharmed") {
  std::vector<std::string> v;
  for (int i = 0; i < 2'000; ++i) {
    v.push_back(std::string(static_cast<std::size_t>(i % 300), 'a'));
  }
  comes_back(v);
}
