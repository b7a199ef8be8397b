#include "dist/digest.hpp"

#include "../data/dist_golden.hpp"
#include "hex.hpp"

#include <doctest/doctest.h>

#include <algorithm>

using namespace esp::dist;

TEST_CASE("a challenge's digest is erlang:md5 of cookie and decimal text") {
  for (const auto& proof : golden::proofs) {
    CAPTURE(proof.cookie);
    CAPTURE(proof.challenge);
    auto made = challenge_digest(proof.cookie, proof.challenge);
    CHECK(std::ranges::equal(made, test::hex(proof.md5)));
  }
}

TEST_CASE("two digests that differ in any one bit are not the same") {
  auto a = challenge_digest("cookie", 1);
  CHECK(is_same_digest(a, a));
  for (std::size_t bit = 0; bit < 8 * a.size(); ++bit) {
    auto b = a;
    b[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    CHECK_FALSE(is_same_digest(a, b));
  }
}

TEST_CASE("a digest cut short is not the same") {
  auto a = challenge_digest("cookie", 1);
  CHECK_FALSE(is_same_digest(a, std::span{a}.first(15)));
  CHECK_FALSE(is_same_digest(a, {}));
}
