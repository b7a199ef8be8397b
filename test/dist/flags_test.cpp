#include "dist/flags.hpp"

#include <doctest/doctest.h>

using namespace esp::dist;

// The words that visible nodes send (protocol.md, section 19).
constexpr std::uint64_t otp_23 = 0x101DF7FBD, otp_25 = 0xD07DF7FBD,
                        otp_29 = 0x6D07DF7FBD;

TEST_CASE("every release from 23 on has the flags that we demand") {
  for (auto word : {otp_23, otp_25, otp_29}) {
    CHECK((mandatory & ~expand(word)) == 0);
  }
  CHECK((mandatory & ~expand(0x407074F9C)) == 0); // libei
}

TEST_CASE("we have the flags that every release demands") {
  CHECK((our_flags & mandatory_25) == mandatory_25);
  CHECK((our_flags & mandatory_26) == mandatory_26);
  CHECK((our_flags & 0x50184) == 0x50184); // 23
}

TEST_CASE("the digest stands for the flags that 25 made mandatory") {
  CHECK(expand(dflag::mandatory_25_digest)
        == (dflag::mandatory_25_digest | mandatory_25));
  CHECK(expand(dflag::spawn) == dflag::spawn);
}

TEST_CASE("a flag holds for a connection only if both sides have it") {
  auto with_23 = negotiate(our_flags, otp_23);
  CHECK((with_23 & dflag::fragments) != 0);
  CHECK((with_23 & (dflag::unlink_id | dflag::v4_nc | dflag::alias)) == 0);
  CHECK((negotiate(our_flags, otp_25) & dflag::altact_sig) == 0);
  CHECK((negotiate(our_flags, otp_29) & dflag::altact_sig) != 0);
  // They offer the atom cache, we do not.
  CHECK((negotiate(our_flags, otp_29) & dflag::dist_hdr_atom_cache) == 0);
}

TEST_CASE("flags are named as in OTP's own log lines") {
  CHECK(flag_names(0).empty());
  CHECK(flag_names(dflag::fun_tags | dflag::v4_nc | dflag::bit(60))
        == "FUN_TAGS, V4_NC, bit 60");
}
