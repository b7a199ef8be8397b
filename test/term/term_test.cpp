#include "esp/term.hpp"

#include "term/bytes_of.hpp"
#include "term/rewrite.hpp"
#include "term/slicer.hpp"

#include <doctest/doctest.h>

#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

using esp::atom;
using esp::kind;
using esp::term;
using namespace test;

namespace {

const std::string long_text(100, 'x');

esp::pid some_pid() {
  return {atom("a@h"), 9, 1, 0x6b0404fc};
}

} // namespace

TEST_CASE("a new term is []") {
  CHECK(term().kind() == kind::nil);
  CHECK(term().encode() == bytes_of(131, 106));
}

TEST_CASE("a term keeps its bytes when it is copied, moved and assigned") {
  for (const std::string& text : {std::string("short"), long_text}) {
    term a = term::binary(text);
    term b = a;
    CHECK(a == b);
    term c = std::move(a);
    CHECK(c == b);
    a = c; // a term moved from may be assigned to
    CHECK(*a.as_binary() == text);
    c = std::move(b);
    CHECK(*c.as_binary() == text);
    auto& same = c;
    c = same;
    CHECK(*c.as_binary() == text);
  }
}

TEST_CASE("copies of a long term share its bytes") {
  const term a = term::binary(long_text);
  const term b = a;
  CHECK(a.bytes().data() == b.bytes().data());
}

TEST_CASE("an element of a long tuple shares the tuple's bytes") {
  const term t = term::tuple({atom("tag"), term::binary(long_text)});
  const term e = t.element(1);
  CHECK(e.owner() == t.owner());
  CHECK(*e.as_binary() == long_text);
  CHECK(t.element(0).owner() == nullptr);
}

TEST_CASE("terms may be copied and dropped by many threads at once") {
  const term shared = term::binary(long_text);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([shared] {
      for (int k = 0; k < 10'000; ++k) {
        const term copy = shared;
        if (copy.bytes().size() != 105) {
          throw std::logic_error("torn");
        }
      }
    });
  }
  for (auto& t : threads) {
    t.join();
  }
  CHECK(*shared.as_binary() == long_text);
}

TEST_CASE("a pid is all of node, id, serial and creation") {
  const term t = some_pid();
  CHECK(t.kind() == kind::pid);
  CHECK(t.as_pid() == some_pid());
  // as in protocol.md section 4
  CHECK(t.encode()
        == bytes_of(131, 88, 119, 3, "a@h", 0, 0, 0, 9, 0, 0, 0, 1, 0x6b, 4, 4,
                    0xfc));
  esp::pid other = some_pid();
  other.creation = 1;
  CHECK(term(other) != t);
}

TEST_CASE("references of one to five words come through") {
  for (std::uint8_t n = 1; n <= 5; ++n) {
    esp::ref r{atom("a@h"), 7, n, {}};
    for (std::size_t i = 0; i < n; ++i) {
      r.words[i] = static_cast<std::uint32_t>(i + 1);
    }
    CHECK(term(r).as_ref() == r);
  }
}

TEST_CASE("ports are narrow on the wire while they fit") {
  esp::port p{atom("a@h"), (1u << 28) - 1, 7};
  CHECK(term(p).encode()[1] == std::byte{89});
  CHECK(term(p).as_port() == p);
  ++p.id;
  CHECK(term(p).encode()[1] == std::byte{120});
  CHECK(term(p).as_port() == p);
}

TEST_CASE("a tagged tuple is told by its first element and its size") {
  const term t = term::tuple({atom("ok"), term::integer(1)});
  CHECK(t.is_tagged("ok", 2));
  CHECK(!t.is_tagged("ok", 3));
  CHECK(!t.is_tagged("error", 2));
  CHECK(!term(atom("ok")).is_tagged("ok", 1));
  CHECK(!term::tuple({}).is_tagged("ok", 0));
}

TEST_CASE("an element that is not there throws") {
  CHECK_THROWS_AS(term::tuple({}).element(0), std::out_of_range);
  CHECK_THROWS_AS(term().element(0), std::out_of_range);
}

TEST_CASE("a list is read in whichever parts it came") {
  // [1, 2, 3, 4] as [1 | [2, 3 as a string]] ... [4]
  const term t = term_of(bytes_of(131, 108, 0, 0, 0, 1, 97, 1, 108, 0, 0, 0, 2,
                                  97, 2, 97, 3, 107, 0, 1, 4));
  CHECK(t == term::string("\1\2\3\4"));
  CHECK(t.hash() == term::string("\1\2\3\4").hash());
  CHECK(t.as_list()->size() == 4);
  CHECK(t.as_iodata() == "\1\2\3\4");
  CHECK(t.to_string() == "[1,2,3,4]");
}

TEST_CASE("an improper list is no list of elements") {
  const term t = term::list(std::vector{term(atom("alias"))}, term::integer(1));
  CHECK(t.kind() == kind::list);
  CHECK(!t.as_list());
  CHECK(!t.as_iodata());
  CHECK(t.to_string() == "[alias|1]");
}

TEST_CASE("a string of any length is the list of its characters") {
  for (const std::size_t n : {std::size_t{0}, std::size_t{1},
                              std::size_t{65'535}, std::size_t{65'536}}) {
    const std::string s(n, 'y');
    const term t = term::string(s);
    CHECK(t.as_iodata() == s);
    CHECK(t.kind() == (n == 0 ? kind::nil : kind::list));
  }
}

TEST_CASE("a map finds its values by key") {
  const term m = term::map(
      {{atom("a"), term::integer(1)}, {term::string("b"), term::integer(2)}});
  CHECK(m.get("a")->as_integer() == 1);
  // the same list in its long form
  CHECK(m.get(term::list({term::integer('b')}))->as_integer() == 2);
  CHECK(!m.get("b"));
  CHECK(!term().get("a"));
}

TEST_CASE("maps are equal in any order of their keys") {
  std::vector<std::pair<term, term>> pairs;
  for (int i = 0; i < 100; ++i) {
    pairs.emplace_back(term::tuple({term::integer(i), term::integer(-i)}),
                       term::map({{atom("x"), term::integer(i)}}));
  }
  const term forwards = term::map(pairs);
  const term backwards = term::map(std::vector(pairs.rbegin(), pairs.rend()));
  CHECK(forwards == backwards);
  CHECK(forwards.hash() == backwards.hash());
  pairs[50].second = term::integer(50);
  CHECK(forwards != term::map(pairs));
  const term key_in_key = term::map({{forwards, atom("v")}, {term(), term()}});
  CHECK(key_in_key == term::map({{term(), term()}, {backwards, atom("v")}}));
}

TEST_CASE("an integer is not the float of the same value") {
  CHECK(term::integer(1) != term::floating(1));
  CHECK(term::floating(0.0) == term::floating(-0.0));
  CHECK(term::floating(0.0).hash() == term::floating(-0.0).hash());
  CHECK_THROWS_AS(term::floating(1e308 * 10), std::range_error);
}

TEST_CASE("the unused bits of a bit string do not count") {
  const term a = term_of(bytes_of(131, 77, 0, 0, 0, 1, 3, 0b1010'0000));
  const term b = term_of(bytes_of(131, 77, 0, 0, 0, 1, 3, 0b1011'1111));
  CHECK(a == b);
  CHECK(a.hash() == b.hash());
  CHECK(b.to_string() == "<<5:3>>");
}

TEST_CASE("comparing, hashing and printing need no stack for deep terms") {
  const auto deep = [](int last) {
    return term_of(bytes_of(131, repeat(9'990, bytes_of(104, 1)), 97, last));
  };
  CHECK(deep(1) == deep(1));
  CHECK(deep(1) != deep(2));
  CHECK(deep(1).hash() == deep(1).hash());
  CHECK(deep(1).to_string(50) == std::string(50, '{') + "...");
}

TEST_CASE("printing stops at the limit, between characters") {
  CHECK(term(atom("åååååå")).to_string(5) == "åå...");
  CHECK(term::binary(std::string(1000, 'x')).to_string(10) == "<<\"xxxxxxx...");
  CHECK(term::binary("abc").to_string(9) == "<<\"abc\">>");
}

TEST_CASE("identifiers print with the name of their node") {
  CHECK(term(some_pid()).to_string() == "<a@h.9.1>");
  CHECK(term(esp::ref{atom("a@h"), 1, 3, {1, 2, 3}}).to_string()
        == "#Ref<a@h.3.2.1>");
  CHECK(term(esp::port{atom("a@h"), 5, 1}).to_string() == "#Port<a@h.5>");
}

TEST_CASE("a closure goes back as it came") {
  const auto fun =
      bytes_of(131, 112, 0, 0, 0, 61, 1, repeat(16, bytes_of(7)), 0, 0, 0, 3, 0,
               0, 0, 1, 119, 1, "m", 97, 3, 98, 0, 1, 2, 3, 88, 119, 3, "a@h",
               0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 97, 42);
  const term t = term_of(fun);
  CHECK(t.kind() == kind::fun);
  CHECK(t.encode() == fun);
  CHECK(t.to_string() == "#Fun<m.3.66051>");
  CHECK(t == t);
  // normalizing it mends a size that was wrong
  CHECK(esp::etf::normalize(t.bytes())[4] == std::byte{59});
}

TEST_CASE("a native record is kept and printed") {
  const auto record = bytes_of(131, 67, 0, 0, 0, 1, 1, 119, 1, "m", 119, 1, "r",
                               119, 1, "x", 97, 5);
  const term t = term_of(record);
  CHECK(t.kind() == kind::record);
  CHECK(t.encode() == record);
  CHECK(t.to_string() == "#m:r{x = 5}");
}

TEST_CASE("towards OTP 23 ports become narrow, or the term is refused") {
  const auto wide = [](int high) { // [<a port>], with bit 28 or without
    return bytes_of(131, 108, 0, 0, 0, 1, 120, 119, 3, "a@h", 0, 0, 0, 0, high,
                    0, 0, 9, 0, 0, 0, 7, 106);
  };
  const auto narrowed = esp::etf::narrow(term_of(wide(0)));
  REQUIRE(narrowed);
  CHECK(narrowed->encode()
        == bytes_of(131, 108, 0, 0, 0, 1, 89, 119, 3, "a@h", 0, 0, 0, 9, 0, 0,
                    0, 7, 106));
  CHECK(!esp::etf::narrow(term_of(wide(16))));
  esp::pid p = some_pid();
  CHECK(esp::etf::narrow(p));
  p.id = 0x8000;
  CHECK(!esp::etf::narrow(p));
  CHECK(!esp::etf::narrow(esp::ref{atom("a@h"), 1, 5, {1, 2, 3, 4, 5}}));
}

TEST_CASE("terms out of one frame share one copy of it") {
  const auto body = bytes_of(109, 0, 0, 0, 100, long_text, 106, 109, 0, 0, 0,
                             50, std::string(50, 'z'));
  std::vector<term> terms;
  {
    esp::etf::slicer frame(body);
    while (frame.left() > 0) {
      auto t = frame.next();
      REQUIRE(t);
      terms.push_back(*t);
    }
  }
  REQUIRE(terms.size() == 3);
  CHECK(terms[0].owner() == terms[2].owner());
  CHECK(*terms[0].as_binary() == long_text);
  CHECK(*terms[2].as_binary() == std::string(50, 'z'));
}
