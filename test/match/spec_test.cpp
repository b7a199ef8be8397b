// Match specifications without a node: what erlang:match_spec_test/3 says of the
// same is in trace_SUITE, for generated ones too.

#include "match/spec.hpp"

#include "esp/codec.hpp"
#include "match/order.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using esp::atom;
using esp::term;
using namespace esp::match;

namespace {

term list(std::initializer_list<term> l) { return term::list(l); }
term tuple(std::initializer_list<term> t) { return term::tuple(t); }
term i(std::int64_t n) { return term::integer(n); }

// [{Head, Guards, Body}]
term program(const term& head, const term& guards, const term& body) {
  return list({tuple({head, guards, body})});
}

std::string error_of(const term& t, use u = use::calls) {
  const auto made = spec::compile(t, u);
  const auto* why = std::get_if<std::string>(&made);
  return why != nullptr ? *why : "";
}

verdict run(const term& t, const term& args,
            std::atomic<std::uint32_t>* tcw = nullptr) {
  const auto made = spec::compile(t, use::calls);
  const auto* s = std::get_if<spec_ptr>(&made);
  REQUIRE(s != nullptr);
  return (*s)->run({esp::pid{atom("n@h"), 1, 2, 3}, atom("n@h")}, args, tcw);
}

const term one = atom("$1"), any_ = atom("_");

} // namespace

TEST_CASE("a variable that comes twice stands for one value") {
  const term p = program(list({one, one}), term(), term());
  CHECK(run(p, list({i(1), i(1)})).matched);
  CHECK_FALSE(run(p, list({i(1), term::floating(1)})).matched);
}

TEST_CASE("clauses that move while others are added still match") {
  std::vector<term> clauses;
  for (int n = 0; n < 40; ++n)
    clauses.push_back(
        tuple({list({i(n), any_}), term(),
               list({tuple({atom("message"), i(n)})})}));
  const auto v = run(term::list(clauses), list({i(33), i(0)}));
  CHECK(v.extra() == i(33));
}

TEST_CASE("a guard that fails is the end of its clause, a body's goes on") {
  const term failing = tuple({atom("hd"), term()});
  CHECK_FALSE(
      run(program(any_, list({failing}), term()), list({i(1)})).matched);
  const auto v = run(program(any_, term(),
                             list({tuple({atom("message"), failing})})),
                     list({i(1)}));
  CHECK(v.is_told());
  CHECK(v.extra() == term(atom("EXIT")));
}

TEST_CASE("the message false is no event, true none of its own") {
  const auto with = [](const term& m) {
    return run(program(any_, term(), list({tuple({atom("message"), m})})),
               list({i(1)}));
  };
  CHECK_FALSE(with(atom("false")).is_told());
  CHECK(with(atom("true")).is_told());
  CHECK_FALSE(with(atom("true")).extra());
}

TEST_CASE("the trace control word is set, and the former value given") {
  std::atomic<std::uint32_t> word{7};
  const auto v = run(
      program(any_, term(),
              list({tuple({atom("message"), tuple({atom("set_tcw"), i(9)})})})),
      term(), &word);
  CHECK(v.extra() == i(7));
  CHECK(word == 9);
}

TEST_CASE("what cannot be had is refused, with what it is") {
  const auto body = [](const term& action) {
    return program(any_, term(), list({action}));
  };
  for (const char* name : {"process_dump", "get_seq_token", "is_seq_trace",
                           "current_stacktrace"})
    CHECK(error_of(body(tuple({atom(name)}))).find(name) != std::string::npos);
  CHECK(error_of(body(one)) == "Variable $1 is unbound.");
  CHECK_FALSE(error_of(term()).empty());
  CHECK_FALSE(error_of(program(atom("x"), term(), term())).empty());
  CHECK(error_of(body(tuple({atom("caller")}))).empty());
  CHECK_FALSE(
      error_of(body(tuple({atom("caller")})), use::messages).empty());
}

TEST_CASE("an expression as deep as a term may be is no matter of the stack") {
  term deep = atom("true");
  for (int n = 0; n < 9'000; ++n)
    deep = tuple({atom("not"), deep});
  CHECK(run(program(any_, list({deep}), term()), term()).matched);
}

TEST_CASE("terms are in Erlang's order") {
  const std::vector<term> rising{
      i(-1), term::floating(0.5), i(1), term::floating(1.5), i(2), atom("a"),
      atom("b"), esp::ref{atom("n"), 1, 1, {1}}, esp::port{atom("n"), 1, 1},
      esp::pid{atom("n"), 1, 0, 1}, tuple({}), tuple({i(9)}),
      tuple({i(1), i(1)}), term::map({{i(1), i(1)}}), term(),
      list({i(1)}), list({i(1), i(0)}), list({i(2)}), term::binary(""),
      term::binary("a"), term::binary("ab"), term::binary("b")};
  for (std::size_t a = 0; a < rising.size(); ++a)
    for (std::size_t b = 0; b < rising.size(); ++b) {
      CAPTURE(rising[a].to_string());
      CAPTURE(rising[b].to_string());
      const int c = compare(rising[a], rising[b]);
      CHECK((c < 0) == (a < b));
      CHECK((c > 0) == (a > b));
    }
  CHECK(compare(i(1), term::floating(1)) == 0);
  CHECK(compare(list({i(1)}), term::string("\x01")) == 0);
}
