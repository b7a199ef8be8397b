#include "esp/error.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <string>

using esp::errc;
using esp::result;

TEST_CASE("each code is called what Erlang callers see") {
  CHECK(name(errc::truncated) == "truncated");
  CHECK(name(errc::noconnection) == "noconnection");
  CHECK(name(errc::io) == "io");
}

TEST_CASE("a result holds the value or the error") {
  result<std::string> good = std::string("yes");
  REQUIRE(good);
  CHECK(*good == "yes");
  CHECK(good->size() == 3);
  result<std::string> bad(errc::refused, "no");
  CHECK(!bad);
  CHECK(bad.error().code == errc::refused);
  CHECK(bad.error().what == "no");
  CHECK(bad.value_or("else") == "else");
}

TEST_CASE("a value that only moves moves out") {
  result<std::unique_ptr<int>> r = std::make_unique<int>(7);
  const std::unique_ptr<int> taken = *std::move(r);
  CHECK(*taken == 7);
}

TEST_CASE("a result of nothing is good or an error") {
  const result<void> good;
  CHECK(good);
  const result<void> bad(errc::io, "disk");
  CHECK(!bad);
  CHECK(bad.error().what == "disk");
}
