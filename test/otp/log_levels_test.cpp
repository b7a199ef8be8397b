#include "otp/log_levels.hpp"

#include <doctest/doctest.h>

#include <vector>

using esp::atom;
using esp::level;
using esp::term;
using esp::otp::log_levels;

namespace {

const esp::pid teller{atom("a@h"), 1, 0, 7};

term told(const term& primary, const term& modules) {
  return term::tuple({atom("$coop"), atom("log_levels"), primary, modules});
}

term modules(std::initializer_list<std::pair<const char*, const char*>> all) {
  std::vector<term> pairs;
  for (const auto& [module, l] : all)
    pairs.push_back(term::tuple({atom(module), atom(l)}));
  return term::list(pairs);
}

bool allows(const log_levels& l, level at, const char* module = "m") {
  return l.allows(teller.node, teller.creation, at, atom(module));
}

} // namespace

TEST_CASE("a VM that has said nothing gets every event") {
  log_levels l;
  CHECK(allows(l, level::debug));
  CHECK(l.shown().to_string() == "#{}");
}

TEST_CASE("what is less important than the primary level is not let by") {
  log_levels l;
  REQUIRE(l.set(teller, told(atom("notice"), term())));
  CHECK_FALSE(allows(l, level::debug));
  CHECK_FALSE(allows(l, level::info));
  CHECK(allows(l, level::notice));
  CHECK(allows(l, level::emergency));
  REQUIRE(l.set(teller, told(atom("none"), term())));
  CHECK_FALSE(allows(l, level::emergency));
  REQUIRE(l.set(teller, told(atom("all"), term())));
  CHECK(allows(l, level::debug));
}

TEST_CASE("a module's level counts instead of the primary one, either way") {
  log_levels l;
  REQUIRE(l.set(teller, told(atom("error"),
                             modules({{"loud", "debug"}, {"mute", "none"}}))));
  CHECK(allows(l, level::debug, "loud"));
  CHECK_FALSE(allows(l, level::emergency, "mute"));
  CHECK_FALSE(allows(l, level::warning, "m"));
  CHECK(allows(l, level::error, "m"));
}

TEST_CASE("levels are those of one life of one node") {
  log_levels l;
  REQUIRE(l.set(teller, told(atom("none"), term())));
  CHECK(l.allows(atom("b@h"), teller.creation, level::debug, atom("m")));
  CHECK(l.allows(teller.node, teller.creation + 1, level::debug, atom("m")));
}

TEST_CASE("what is malformed changes nothing") {
  log_levels l;
  REQUIRE(l.set(teller, told(atom("error"), term())));
  const std::vector<term> one{term::tuple({atom("m"), atom("info")})};
  const term improper = term::list(one, atom("x"));
  for (const term& bad :
       {told(atom("loud"), term()), told(term::integer(1), term()),
        told(atom("info"), atom("x")), told(atom("info"), improper),
        told(atom("info"), term::list(std::initializer_list<term>{atom("m")})),
        told(atom("info"), modules({{"m", "info"}, {"n", "loud"}})),
        told(atom("info"), term::list(std::initializer_list<term>{term::tuple(
                               {term::integer(1), atom("info")})})),
        term(atom("log_levels"))})
    CHECK_FALSE(l.set(teller, bad));
  CHECK_FALSE(allows(l, level::info));
  CHECK(allows(l, level::error));
}
