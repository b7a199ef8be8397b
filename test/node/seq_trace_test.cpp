// Tokens of seq_trace: what is one, and what comes after it.

#include "node/seq_trace.hpp"

#include <doctest/doctest.h>

#include <string>

using esp::atom;
using esp::pid;
using esp::term;
using esp::node::seq_token;

namespace {

const pid me{atom("here@h"), 5, 0, 1};
const pid other{atom("there@h"), 9, 0, 2};
constexpr std::int64_t most = (std::int64_t{1} << 59) - 1;

term token(term flags, term serial, term from, term last) {
  return term::tuple({flags, atom("label"), serial, from, last});
}

term number(std::int64_t n) { return term::integer(n); }

} // namespace

TEST_CASE("a token is read and written as it came") {
  for (const term& from : {term(other), term(atom("there@h"))}) {
    const term t = token(number(63), number(most), from, number(0));
    const auto read = seq_token::read(t);
    REQUIRE(read);
    CHECK(read->to_term() == t);
  }
}

TEST_CASE("what no node can have made is no token") {
  for (const term& t :
       {term(), term(atom("x")), term::tuple({number(1), number(2)}),
        token(number(64), number(1), other, number(0)),
        token(number(-1), number(1), other, number(0)),
        token(atom("a"), number(1), other, number(0)),
        token(number(1), number(most + 1), other, number(0)),
        token(number(1), number(-1), other, number(0)),
        token(number(1), number(1), number(7), number(0)),
        token(number(1), number(1), other, atom("b")),
        term::list({number(1), atom("label"), number(1), other, number(0)})})
    CHECK_FALSE(seq_token::read(t));
}

TEST_CASE("a message says which one its sender had received") {
  const auto t = *seq_token::read(token(number(3), number(7), other, number(2)));
  std::int64_t clock = 20;
  const auto first = t.next(me, clock);
  CHECK(first.to_term() == token(number(3), number(21), me, number(7)));
  // ... and so does the next one.
  CHECK(first.next(me, clock).to_term()
        == token(number(3), number(22), me, number(7)));
  CHECK(clock == 22);
}

TEST_CASE("serials end where a VM's small integers do") {
  const auto t =
      *seq_token::read(token(number(3), number(most), other, number(0)));
  std::int64_t clock = 0;
  const auto next = t.next(me, clock);
  CHECK(seq_token::read(next.to_term()));
  CHECK(seq_token::read(next.next(me, clock).to_term()));
}
