#include "dist/handshake.hpp"

#include "../data/dist_golden.hpp"
#include "hex.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

using namespace esp::dist;
using esp::errc;
using test::bytes;
using test::hex;
using test::join;
using test::number;
using test::text;
using state = handshake::state;

namespace {

constexpr std::string_view us = "us@127.0.0.1";
constexpr std::string_view them = "them@127.0.0.1";
constexpr std::uint32_t our_challenge = golden::challenge;
constexpr std::uint32_t their_challenge = 0x80000001;
constexpr std::uint64_t otp_25 = 0xD07DF7FBD;

handshake_options options(std::string cookie = "monster") {
  handshake_options o;
  o.name = us;
  o.creation = 5;
  o.challenge = our_challenge;
  o.cookie = [cookie](std::string_view) { return cookie; };
  return o;
}

bytes framed(const bytes& body) {
  return test::packet(body, 2);
}

bytes counted(std::string_view name) {
  return join(number(name.size(), 2), text(name));
}

bytes name_body(std::string_view name = them, std::uint64_t flags = otp_25) {
  return join(text("N"), number(flags, 8), number(7, 4), counted(name));
}

bytes challenge_body(std::string_view name = them,
                     std::uint64_t flags = otp_25) {
  return join(text("N"), number(flags, 8), number(their_challenge, 4),
              number(7, 4), counted(name));
}

bytes proof(std::string_view cookie, std::uint32_t challenge) {
  auto d = challenge_digest(cookie, challenge);
  return {d.begin(), d.end()};
}

bytes reply_body(std::string_view cookie = "monster") {
  return join(text("r"), number(their_challenge, 4),
              proof(cookie, our_challenge));
}

bytes ack_body(std::string_view cookie = "monster") {
  return join(text("a"), proof(cookie, our_challenge));
}

// An acceptor that has been dialled and asks.
handshake asked(handshake_options o = options()) {
  auto h = handshake::accept(std::move(o));
  REQUIRE(h.feed(framed(name_body())) == state::asking);
  return h;
}

// Feeds all but the last byte one by one, which must change nothing, then the
// last one.
state feed_byte_by_byte(handshake& h, const bytes& packet) {
  for (std::size_t i = 0; i + 1 < packet.size(); ++i) {
    CAPTURE(i);
    REQUIRE(h.feed(std::span{packet}.subspan(i, 1)) == state::reading);
    REQUIRE(h.take_output().empty());
  }
  return h.feed(std::span{packet}.last(1));
}

} // namespace

TEST_CASE("as initiator we complete the handshake of a real node") {
  auto o = options(std::string{golden::cookie});
  auto h = handshake::initiate(o, "cap@127.0.0.1");
  CHECK(h.take_output()
        == framed(
            join(text("N"), number(our_flags, 8), number(5, 4), counted(us))));
  CHECK(h.feed(framed(hex(golden::status))) == state::reading);
  CHECK(h.feed(framed(hex(golden::challenge_packet))) == state::reading);
  CHECK(h.take_output().size() == 2 + 1 + 4 + 16);
  CHECK(h.feed(framed(hex(golden::ack))) == state::connected);
  CHECK(h.peer_name() == "cap@127.0.0.1");
  CHECK(h.flags() == (our_flags & 0xD07DF7FBC));
  CHECK(h.peer_creation() > 3);
}

TEST_CASE("as acceptor we complete the handshake of a real node") {
  auto o = options(std::string{golden::cookie});
  o.name = "dd@127.0.0.1";
  auto h = handshake::accept(o);
  REQUIRE(h.feed(framed(hex(golden::name_packet))) == state::asking);
  CHECK(h.peer_name() == "cap@127.0.0.1");
  CHECK(h.answer(status::ok) == state::reading);
  CHECK(h.take_output()
        == join(framed(text("sok")),
                framed(join(text("N"), number(our_flags, 8),
                            number(our_challenge, 4), number(5, 4),
                            counted("dd@127.0.0.1")))));
  CHECK(h.feed(framed(hex(golden::challenge_reply))) == state::connected);
  CHECK(h.take_output() == framed(hex(golden::our_ack)));
  CHECK_FALSE(h.replaces_old());
}

TEST_CASE("both roles speak to each other, in pieces of any size") {
  for (std::size_t length_size : {2U, 4U}) {
    for (std::size_t piece = 1; piece < 80; ++piece) {
      CAPTURE(piece);
      auto a = options(), b = options();
      a.length_size = b.length_size = length_size;
      a.challenge = 1;
      b.name = them;
      auto dialler = handshake::initiate(a, std::string{them});
      auto listener = handshake::accept(b);
      auto carry = [piece](handshake& from, handshake& to) {
        auto out = from.take_output();
        for (std::span<const std::byte> left{out}; !left.empty();) {
          auto n = std::min(piece, left.size());
          if (to.feed(left.first(n)) == state::asking) {
            to.answer(status::ok);
          }
          left = left.subspan(n);
        }
      };
      for (int round = 0; round < 3; ++round) {
        carry(dialler, listener);
        carry(listener, dialler);
      }
      REQUIRE(dialler.current() == state::connected);
      REQUIRE(listener.current() == state::connected);
      REQUIRE(dialler.flags() == listener.flags());
      REQUIRE(listener.peer_name() == us);
    }
  }
}

TEST_CASE("as acceptor we wait for every byte of every packet") {
  auto h = handshake::accept(options());
  REQUIRE(feed_byte_by_byte(h, framed(name_body())) == state::asking);
  h.answer(status::ok);
  (void)h.take_output();
  REQUIRE(feed_byte_by_byte(h, framed(reply_body())) == state::connected);
}

TEST_CASE("as initiator we wait for every byte of every packet") {
  auto h = handshake::initiate(options(), std::string{them});
  (void)h.take_output();
  REQUIRE(feed_byte_by_byte(h, framed(text("sok_simultaneous")))
          == state::reading);
  REQUIRE(feed_byte_by_byte(h, framed(challenge_body())) == state::reading);
  (void)h.take_output();
  REQUIRE(feed_byte_by_byte(h, framed(ack_body())) == state::connected);
}

TEST_CASE("a packet whose body is cut short closes, wherever it is cut") {
  for (std::size_t n = 0; n < name_body().size(); ++n) {
    CAPTURE(n);
    auto cut = name_body();
    cut.resize(n);
    auto h = handshake::accept(options());
    REQUIRE(h.feed(framed(cut)) == state::failed);
    // Flags that are whole were judged by then.
    REQUIRE(h.error().code == errc::malformed);
  }
  for (std::size_t n = 0; n < reply_body().size(); ++n) {
    auto cut = reply_body();
    cut.resize(n);
    auto h = asked();
    h.answer(status::ok);
    REQUIRE(h.feed(framed(cut)) == state::failed);
    REQUIRE(h.error().code == errc::malformed);
  }
  for (std::size_t n = 0; n < challenge_body().size(); ++n) {
    auto cut = challenge_body();
    cut.resize(n);
    auto h = handshake::initiate(options(), std::string{them});
    h.feed(framed(text("sok")));
    REQUIRE(h.feed(framed(cut)) == state::failed);
    REQUIRE(h.error().code == errc::malformed);
  }
  for (std::size_t n = 0; n < ack_body().size(); ++n) {
    auto cut = ack_body();
    cut.resize(n);
    auto h = handshake::initiate(options(), std::string{them});
    h.feed(framed(text("sok")));
    h.feed(framed(challenge_body()));
    REQUIRE(h.feed(framed(cut)) == state::failed);
    REQUIRE(h.error().code == errc::malformed);
  }
}

TEST_CASE("bytes after the name, as later releases may send, are ignored") {
  auto h = handshake::accept(options());
  CHECK(h.feed(framed(join(name_body(), text("more to come"))))
        == state::asking);
  CHECK(h.peer_name() == them);
  h.answer(status::ok);

  auto d = handshake::initiate(options(), std::string{them});
  d.feed(framed(text("sok")));
  CHECK(d.feed(framed(join(challenge_body(), text("more")))) == state::reading);
}

TEST_CASE("a packet over 1,100 bytes closes before its body came") {
  auto h = handshake::accept(options());
  CHECK(h.feed(number(1'101, 2)) == state::failed);
  CHECK(h.error().code == errc::too_large);
  auto tls = options();
  tls.length_size = 4;
  auto t = handshake::accept(tls);
  CHECK(t.feed(number(0x01000000, 4)) == state::failed);
  CHECK(t.error().code == errc::too_large);
  auto largest = handshake::accept(options());
  CHECK(largest.feed(number(1'100, 2)) == state::reading);
}

TEST_CASE("a packet out of its turn closes") {
  auto h = handshake::accept(options());
  CHECK(h.feed(framed(reply_body())) == state::failed);
  auto s = handshake::accept(options());
  CHECK(s.feed(framed(text("sok"))) == state::failed);
  auto d = handshake::initiate(options(), std::string{them});
  CHECK(d.feed(framed(challenge_body())) == state::failed);
  auto a = handshake::initiate(options(), std::string{them});
  CHECK(a.feed(framed(ack_body())) == state::failed);
  auto twice = asked();
  twice.answer(status::ok);
  CHECK(twice.feed(framed(name_body())) == state::failed);
  auto empty = handshake::accept(options());
  CHECK(empty.feed(framed({})) == state::failed);
}

TEST_CASE("as acceptor we close on a wrong cookie without a word") {
  auto h = asked();
  h.answer(status::ok);
  (void)h.take_output();
  CHECK(h.feed(framed(reply_body("another"))) == state::failed);
  CHECK(h.error().code == errc::refused);
  CHECK(h.take_output().empty());
}

TEST_CASE("as initiator we close on a wrong cookie") {
  auto h = handshake::initiate(options(), std::string{them});
  h.feed(framed(text("sok")));
  h.feed(framed(challenge_body()));
  CHECK(h.feed(framed(ack_body("another"))) == state::failed);
  CHECK(h.error().code == errc::refused);
}

TEST_CASE("the cookie is asked for by the peer's name") {
  auto o = options();
  o.cookie = [](std::string_view peer) {
    return peer == them ? std::string{"theirs"} : std::string{"other"};
  };
  auto h = asked(o);
  h.answer(status::ok);
  CHECK(h.feed(framed(reply_body("theirs"))) == state::connected);
}

TEST_CASE("a node without the mandatory flags is told not_allowed, and the "
          "log which") {
  auto h = handshake::accept(options());
  auto flags = otp_25 & ~dflag::mandatory_25_digest & ~dflag::map_tag;
  CHECK(h.feed(framed(name_body(them, flags))) == state::failed);
  CHECK(h.take_output() == framed(text("snot_allowed")));
  CHECK(h.error().code == errc::refused);
  CHECK(h.error().what.find("MAP_TAG") != std::string::npos);

  auto d = handshake::initiate(options(), std::string{them});
  d.feed(framed(text("sok")));
  CHECK(d.feed(framed(challenge_body(them, flags))) == state::failed);
  CHECK(d.error().what.find("MAP_TAG") != std::string::npos);
}

TEST_CASE("the digest of the mandatory flags alone is enough") {
  auto h = handshake::accept(options());
  CHECK(h.feed(framed(name_body(them, dflag::mandatory_25_digest)))
        == state::asking);
}

TEST_CASE("a node that speaks version 5 only is told not_allowed") {
  auto h = handshake::accept(options());
  CHECK(h.feed(framed(
            join(text("n"), number(5, 2), number(0x7499c, 4), text(them))))
        == state::failed);
  CHECK(h.take_output() == framed(text("snot_allowed")));
  CHECK(h.error().code == errc::refused);
}

TEST_CASE("what is no node name is told not_allowed") {
  for (std::string name :
       {"", "nohost", "@host", "name@", "a@b@c", "\xff@host", "\xc0\x80@h"}) {
    CAPTURE(name);
    auto h = handshake::accept(options());
    CHECK(h.feed(framed(name_body(name))) == state::failed);
    CHECK(h.take_output() == framed(text("snot_allowed")));
  }
  auto longest = std::string(250, 'a') + "@host";
  auto h = handshake::accept(options());
  CHECK(h.feed(framed(name_body(longest))) == state::asking);
  auto over = handshake::accept(options());
  CHECK(over.feed(framed(name_body("a" + longest))) == state::failed);
}

TEST_CASE("a node with our own name is told not_allowed") {
  auto h = handshake::accept(options());
  CHECK(h.feed(framed(name_body(us))) == state::failed);
  CHECK(h.take_output() == framed(text("snot_allowed")));
}

TEST_CASE("of two dials that cross, the greater name's wins") {
  CHECK(decide("b@h", "c@h", false, true) == status::ok_simultaneous);
  CHECK(decide("b@h", "a@h", false, true) == status::nok);
  CHECK(decide("b@h", "a@h", false, false) == status::ok);
  CHECK(decide("b@h", "c@h", true, false) == status::alive);
  // By bytes, as the BEAM compares atoms, not by a locale.
  CHECK(decide("B@h", "a@h", false, true) == status::ok_simultaneous);
}

TEST_CASE("each status is answered with its word") {
  for (auto [answer, word, after] :
       {std::tuple{status::ok_simultaneous, "sok_simultaneous", state::reading},
        std::tuple{status::nok, "snok", state::failed},
        std::tuple{status::not_allowed, "snot_allowed", state::failed},
        std::tuple{status::alive, "salive", state::reading}}) {
    CAPTURE(word);
    auto h = asked();
    CHECK(h.answer(answer) == after);
    auto out = h.take_output();
    auto wanted = framed(text(word));
    out.resize(std::min(out.size(), wanted.size()));
    CHECK(out == wanted);
  }
}

TEST_CASE("an old connection is replaced only when the other side says so and "
          "knows the cookie") {
  auto h = asked();
  CHECK(h.answer(status::alive) == state::reading);
  CHECK(h.take_output() == framed(text("salive")));
  CHECK(h.feed(framed(text("strue"))) == state::reading);
  CHECK(h.take_output().size() > 20); // the challenge
  CHECK(h.feed(framed(reply_body())) == state::connected);
  CHECK(h.replaces_old());

  auto kept = asked();
  kept.answer(status::alive);
  CHECK(kept.feed(framed(text("sfalse"))) == state::failed);
  CHECK(kept.error().code == errc::refused);

  auto neither = asked();
  neither.answer(status::alive);
  CHECK(neither.feed(framed(text("sperhaps"))) == state::failed);
  CHECK(neither.error().code == errc::malformed);

  auto stranger = asked();
  stranger.answer(status::alive);
  stranger.feed(framed(text("strue")));
  CHECK(stranger.feed(framed(reply_body("guess"))) == state::failed);
}

TEST_CASE("as initiator we are asked what to do about alive") {
  auto h = handshake::initiate(options(), std::string{them});
  (void)h.take_output();
  CHECK(h.feed(framed(text("salive"))) == state::alive);
  CHECK(h.replace(true) == state::reading);
  CHECK(h.take_output() == framed(text("strue")));
  h.feed(framed(challenge_body()));
  CHECK(h.feed(framed(ack_body())) == state::connected);

  auto kept = handshake::initiate(options(), std::string{them});
  (void)kept.take_output();
  kept.feed(framed(text("salive")));
  CHECK(kept.replace(false) == state::failed);
  CHECK(kept.take_output() == framed(text("sfalse")));
}

TEST_CASE("as initiator we take no for an answer") {
  for (auto word : {"snok", "snot_allowed"}) {
    auto h = handshake::initiate(options(), std::string{them});
    CHECK(h.feed(framed(text(word))) == state::failed);
    CHECK(h.error().code == errc::refused);
  }
  auto h = handshake::initiate(options(), std::string{them});
  CHECK(h.feed(framed(text("sokay"))) == state::failed);
  CHECK(h.error().code == errc::malformed);
}

TEST_CASE("a challenge from another node than was dialled closes") {
  auto h = handshake::initiate(options(), std::string{them});
  h.feed(framed(text("sok")));
  CHECK(h.feed(framed(challenge_body("else@127.0.0.1"))) == state::failed);
}

TEST_CASE("a nameless node can be given a name, or refused") {
  auto nameless = framed(name_body("127.0.0.1", otp_25 | dflag::name_me));
  auto h = handshake::accept(options());
  REQUIRE(h.feed(nameless) == state::asking);
  CHECK(h.wants_name());
  CHECK(h.answer_named("x1@127.0.0.1", 9) == state::reading);
  auto named =
      framed(join(text("snamed:"), counted("x1@127.0.0.1"), number(9, 4)));
  auto out = h.take_output();
  out.resize(named.size());
  CHECK(out == named);
  CHECK(h.feed(framed(reply_body())) == state::connected);
  CHECK(h.peer_name() == "x1@127.0.0.1");
  CHECK(h.peer_creation() == 9);
  CHECK((h.flags() & dflag::name_me) == 0);

  auto refused = handshake::accept(options());
  refused.feed(nameless);
  CHECK(refused.answer(status::ok) == state::failed);
  CHECK(refused.take_output() == framed(text("snot_allowed")));
}

TEST_CASE("we take the name that we asked for, and no other") {
  auto o = options();
  o.flags |= dflag::name_me;
  o.name = "127.0.0.1";
  auto h = handshake::initiate(o, std::string{them});
  auto named =
      framed(join(text("snamed:"), counted("x1@127.0.0.1"), number(9, 4)));
  CHECK(h.feed(named) == state::reading);
  CHECK(h.our_name() == "x1@127.0.0.1");
  CHECK(h.our_creation() == 9);

  auto unasked = handshake::initiate(options(), std::string{them});
  CHECK(unasked.feed(named) == state::failed);
}

TEST_CASE("what comes behind the last packet are the first frames") {
  auto h = asked();
  h.answer(status::ok);
  auto first = hex("00000000 00000003 834400");
  CHECK(h.feed(join(framed(reply_body()), first)) == state::connected);
  CHECK(h.take_leftover() == first);
  CHECK(h.take_leftover().empty());
}

TEST_CASE("a peer that talks on while we ask is bounded") {
  auto h = asked();
  CHECK(h.feed(bytes(1'000)) == state::asking);
  CHECK(h.feed(bytes(1'000)) == state::failed);
  CHECK(h.error().code == errc::too_large);
}
