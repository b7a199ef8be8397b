#include "term/scan.hpp"

#include "esp/term.hpp"

#include "term/bytes_of.hpp"
#include "term/slicer.hpp"

#include <doctest/doctest.h>

using namespace test;
using esp::errc;
using esp::etf::limits;
using esp::etf::scan;
using esp::etf::verdict;

namespace {

const bytes nonode = bytes_of(119, 13, "nonode@nohost");
const bytes peer = bytes_of(119, 3, "a@h");

bool is_taken(const bytes& tagged) {
  return scan(tagged).has_value();
}
bool is_otp25(const bytes& tagged) {
  return verdict(bytes_of(131, tagged));
}

} // namespace

TEST_CASE("the walk measures one term and leaves the bytes after it alone") {
  const auto s = scan(bytes_of(104, 2, 97, 1, 106, "rest"));
  REQUIRE(s);
  CHECK(s->size == 5);
  CHECK(s->depth == 1);
}

TEST_CASE("an incomplete term is truncated, a wrong one malformed") {
  CHECK(scan(bytes{}).error().code == errc::truncated);
  CHECK(scan(bytes_of(104, 2, 97, 1)).error().code == errc::truncated);
  CHECK(scan(bytes_of(104, 1, 0)).error().code == errc::malformed);
}

TEST_CASE("tails of lists do not count as depth") {
  const auto conses =
      bytes_of(repeat(100'000, bytes_of(108, 0, 0, 0, 1, 97, 1)), 106);
  const auto s = scan(conses);
  REQUIRE(s);
  CHECK(s->depth == 1);
  CHECK(s->size == conses.size());
}

TEST_CASE(
    "a term nested deeper than the cap is too deep, and one less is not") {
  const auto nested = [](std::size_t n) {
    return bytes_of(repeat(n, bytes_of(104, 1)), 106);
  };
  CHECK(scan(nested(10'000)));
  CHECK(scan(nested(10'001)).error().code == errc::too_deep);
  CHECK(scan(nested(4), limits{.max_depth = 3}).error().code == errc::too_deep);
  CHECK(verdict(bytes_of(131, nested(1'000'000))));
}

TEST_CASE("a count greater than the bytes left allocates nothing") {
  CHECK(!is_taken(bytes_of(108, 255, 255, 255, 255, 106)));
  CHECK(!is_taken(bytes_of(105, 255, 255, 255, 255, 106)));
  CHECK(!is_taken(bytes_of(116, 255, 255, 255, 255, 106)));
  CHECK(!is_taken(bytes_of(109, 255, 255, 255, 255, 106)));
}

TEST_CASE("a key given twice is malformed, however it is written") {
  const auto twice = [](const bytes& a, const bytes& b) {
    return bytes_of(116, 0, 0, 0, 2, a, 106, b, 106);
  };
  const auto refused = [&](const bytes& a, const bytes& b) {
    return !is_taken(twice(a, b)) && !is_otp25(twice(a, b));
  };
  CHECK(refused(bytes_of(97, 1), bytes_of(98, 0, 0, 0, 1)));
  CHECK(refused(bytes_of(97, 1), bytes_of(110, 3, 0, 1, 0, 0)));
  CHECK(refused(bytes_of(107, 0, 1, 7), bytes_of(108, 0, 0, 0, 1, 97, 7, 106)));
  CHECK(refused(bytes_of(100, 0, 1, 0xE5), bytes_of(119, 2, 0xC3, 0xA5)));
  CHECK(refused(bytes_of(106), bytes_of(107, 0, 0)));
  CHECK(refused(bytes_of(70, 0, repeat(7, bytes_of(0))),
                bytes_of(70, 128, repeat(7, bytes_of(0)))));
  // {#{a => [], b => []}} in either order
  const auto ab = bytes_of(116, 0, 0, 0, 2, 119, 1, "a", 106, 119, 1, "b", 106);
  const auto ba = bytes_of(116, 0, 0, 0, 2, 119, 1, "b", 106, 119, 1, "a", 106);
  CHECK(refused(bytes_of(104, 1, ab), bytes_of(104, 1, ba)));
  CHECK(is_taken(twice(bytes_of(97, 1), bytes_of(97, 2))));
  CHECK(is_taken(twice(bytes_of(97, 0), bytes_of(70, repeat(8, bytes_of(0))))));
}

TEST_CASE("one key of forty given twice is malformed") {
  for (const int last : {39, 17}) {
    bytes map = bytes_of(116, 0, 0, 0, 40);
    for (int i = 0; i < 39; ++i) {
      append(map, bytes_of(97, i, 106));
    }
    append(map, bytes_of(97, last, 106));
    CHECK(is_taken(map) == (last == 39));
    CHECK(is_otp25(map) == (last == 39));
  }
}

TEST_CASE("an atom has at most 255 characters of strict UTF-8") {
  const auto utf8 = [](const bytes& text) {
    return bytes_of(118, text.size() >> 8, text.size() & 255, text);
  };
  const bytes euro = bytes_of(0xE2, 0x82, 0xAC);
  CHECK(is_taken(utf8(repeat(255, euro))));
  CHECK(!is_taken(utf8(repeat(256, euro))));
  CHECK(is_taken(utf8(repeat(255, bytes_of("x")))));
  CHECK(!is_taken(utf8(repeat(256, bytes_of("x")))));
  CHECK(!is_taken(bytes_of(100, 1, 0, repeat(256, bytes_of("x")))));
  CHECK(!is_taken(utf8(bytes_of(0xC0, 0x80))));       // overlong
  CHECK(!is_taken(utf8(bytes_of(0xED, 0xA0, 0x80)))); // a surrogate
  CHECK(!is_taken(utf8(bytes_of(0xF4, 0x90, 0x80, 0x80))));
  CHECK(!is_taken(utf8(bytes_of(0xE2, 0x82))));
}

TEST_CASE(
    "the verdict refuses identifiers that nonode@nohost cannot have made") {
  const auto pid = [](const bytes& node, int high, int creation) {
    return bytes_of(88, node, 0, high, 0, 0, 0, 0, 0, 0, 0, 0, 0, creation);
  };
  CHECK(is_otp25(pid(nonode, 0, 0)));
  CHECK(!is_otp25(pid(nonode, 1, 0)));
  CHECK(is_otp25(pid(nonode, 1, 1)));
  CHECK(is_otp25(pid(peer, 1, 0)));
  CHECK(is_taken(pid(nonode, 1, 0)));
}

TEST_CASE("an old identifier has a creation of at most 3") {
  for (const int creation : {3, 4}) {
    const auto pid = bytes_of(103, peer, 0, 0, 0, 1, 0, 0, 0, 1, creation);
    CHECK(is_taken(pid) == (creation == 3));
    CHECK(is_otp25(pid) == (creation == 3));
  }
}

TEST_CASE("a fun of more than 255 arguments passes the verdict alone") {
  const auto fun = [](const bytes& arity) {
    return bytes_of(113, 119, 1, "m", 119, 1, "f", arity);
  };
  CHECK(is_taken(fun(bytes_of(97, 255))));
  CHECK(!is_taken(fun(bytes_of(98, 0, 0, 1, 0))));
  CHECK(is_otp25(fun(bytes_of(98, 0, 0, 1, 0))));
  CHECK(!is_otp25(fun(bytes_of(98, 255, 255, 255, 255)))); // -1
}

TEST_CASE("funs whose arities differ above 32 bits are one key twice") {
  // as OTP 25 has it: it keeps 32 bits
  const auto two = [](int high) {
    const auto fun = [](int above) {
      return bytes_of(113, 119, 1, "m", 119, 1, "f", 110, 6, 0, 255, 255, 255,
                      255, 1, above);
    };
    return bytes_of(116, 0, 0, 0, 2, fun(1), 106, fun(high), 106);
  };
  CHECK(!is_otp25(two(1)));
  CHECK(!is_otp25(two(2)));
  CHECK(is_otp25(bytes_of(116, 0, 0, 0, 2, 113, 119, 1, "m", 119, 1, "f", 97, 1,
                          106, 113, 119, 1, "m", 119, 1, "f", 97, 2, 106)));
}

TEST_CASE("a native record passes the connection alone") {
  const auto record = [](int exported, std::string_view second) {
    return bytes_of(67, 0, 0, 0, 2, exported, 119, 1, "m", 119, 1, "r", 119, 1,
                    "x", 119, 1, second, 97, 1, 97, 2);
  };
  CHECK(is_taken(record(1, "y")));
  CHECK(!is_otp25(record(1, "y")));
  CHECK(!is_taken(record(2, "y")));
  CHECK(!is_taken(record(0, "x"))); // a field given twice
}

TEST_CASE("a cache reference stands for an atom of its frame") {
  const auto tuple = bytes_of(104, 2, 82, 0, 82, 1);
  CHECK(scan(tuple, {}, 2));
  CHECK(!scan(tuple, {}, 1));
  CHECK(!is_otp25(tuple));

  const std::vector atoms{esp::atom("ok"), esp::atom("å")};
  esp::etf::slicer frame(tuple, {}, atoms);
  const auto t = frame.next();
  REQUIRE(t);
  CHECK(t->encode() == bytes_of(131, 104, 2, 119, 2, "ok", 119, 2, "å"));
}

TEST_CASE(
    "two keys that are one atom, once as a cache reference, are refused") {
  const auto map = bytes_of(116, 0, 0, 0, 2, 82, 0, 106, 119, 2, "ok", 106);
  const std::vector atoms{esp::atom("ok")};
  esp::etf::slicer frame(map, {}, atoms);
  CHECK(!frame.next());
}

TEST_CASE("an empty bit string, which OTP 27 refuses, goes on as a binary") {
  const auto t = term_of(bytes_of(131, 77, 0, 0, 0, 0, 0));
  CHECK(t.encode() == bytes_of(131, 109, 0, 0, 0, 0));
}

TEST_CASE("a compressed term must be as long as it says") {
  const auto deflated = unhex("789ccb60cc020001a700d4"); // of {[]}, by zlib
  const auto packed = [&](int size) {
    return bytes_of(131, 80, 0, 0, 0, size, deflated);
  };
  CHECK(verdict(packed(3)));
  CHECK(verdict(bytes_of(packed(3), "after")));
  CHECK(!verdict(packed(2)));
  CHECK(!verdict(packed(4)));
  CHECK(term_of(packed(3)) == esp::term::tuple({esp::term()}));
  CHECK(!esp::term::decode(packed(4)));
}

TEST_CASE("a compressed term above the cap is never inflated") {
  const auto claim = bytes_of(131, 80, 4, 0, 0, 1, 0x78, 0x9c);
  CHECK(esp::term::decode(claim).error().code == errc::too_large);
}

TEST_CASE("a list of no elements is its tail") {
  CHECK(term_of(bytes_of(131, 108, 0, 0, 0, 0, 97, 7)).as_integer() == 7);
  CHECK(is_otp25(
      bytes_of(113, 119, 1, "m", 119, 1, "f", 108, 0, 0, 0, 0, 97, 3)));
}

TEST_CASE("bytes after a term are an error of decode") {
  CHECK(!esp::term::decode(bytes_of(131, 106, 0)));
  CHECK(!esp::term::decode(bytes_of(106)));
}
