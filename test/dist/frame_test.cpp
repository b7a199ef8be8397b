#include "dist/frame.hpp"

#include "hex.hpp"

#include <doctest/doctest.h>

#include <algorithm>

using namespace esp::dist;
using esp::errc;
using test::bytes;
using test::hex;
using test::join;
using test::number;
using test::text;

namespace {

constexpr auto no_header = our_flags & ~dflag::fragments;

bytes signal(const bytes& body) {
  return test::packet(join(hex("83 44 00"), body), 4);
}

bytes fragment(bool is_first, std::uint64_t sequence, std::uint64_t id,
               const bytes& body) {
  auto header = join(is_first ? hex("83 45") : hex("83 46"),
                     number(sequence, 8), number(id, 8));
  if (is_first) {
    header.push_back(std::byte{0});
  }
  return test::packet(join(header, body), 4);
}

// The next frame, which has to be there.
frame take(frame_splitter& s) {
  auto f = s.next();
  REQUIRE(f.has_value());
  REQUIRE(f->has_value());
  return **f;
}

bool is_waiting(frame_splitter& s) {
  auto f = s.next();
  REQUIRE(f.has_value());
  return !f->has_value();
}

bool equal(std::span<const std::byte> a, const bytes& b) {
  return std::ranges::equal(a, b);
}

bool is_malformed(std::uint64_t flags, const bytes& stream) {
  frame_splitter s{flags};
  s.feed(stream);
  auto f = s.next();
  // And stays so, whatever comes.
  s.feed(hex("00000000"));
  return !f && f.error().code == errc::malformed && !s.next();
}

} // namespace

TEST_CASE("ticks, signals and fragments come out as they went in") {
  frame_splitter s{our_flags};
  s.feed(join(hex("00000000"), signal(text("abc")), hex("00000000"),
              fragment(true, 7, 2, text("de")),
              fragment(false, 7, 1, text("f"))));
  CHECK(take(s).kind == frame_kind::tick);
  auto whole = take(s);
  CHECK(whole.kind == frame_kind::signal);
  CHECK(equal(whole.body, text("abc")));
  CHECK(take(s).kind == frame_kind::tick);
  auto first = take(s);
  CHECK(first.kind == frame_kind::first_fragment);
  CHECK(first.sequence_id == 7);
  CHECK(first.fragment_id == 2);
  CHECK(equal(first.body, text("de")));
  auto next = take(s);
  CHECK(next.kind == frame_kind::next_fragment);
  CHECK(next.fragment_id == 1);
  CHECK(equal(next.body, text("f")));
  CHECK(is_waiting(s));
  CHECK(s.buffered() == 0);
}

TEST_CASE("a frame cut short at any byte is waited for") {
  auto stream = join(signal(text("abc")), fragment(true, 1, 1, text("def")));
  for (std::size_t n = 0; n < stream.size(); ++n) {
    frame_splitter s{our_flags};
    s.feed(std::span{stream}.first(n));
    while (!is_waiting(s)) {
    }
    s.feed(std::span{stream}.subspan(n));
    frame last;
    for (auto f = s.next(); f && *f; f = s.next()) {
      last = **f;
      CHECK((equal(last.body, text("abc")) || equal(last.body, text("def"))));
    }
    REQUIRE(last.kind == frame_kind::first_fragment);
  }
}

TEST_CASE("a packet of the kind that was not negotiated is malformed") {
  CHECK(is_malformed(our_flags, test::packet(hex("70 83 6a"), 4)));
  CHECK(is_malformed(no_header, signal(hex("6a"))));
  CHECK(is_malformed(no_header, fragment(true, 1, 1, hex("6a"))));
  CHECK(is_malformed(no_header, fragment(false, 1, 1, hex("6a"))));
  frame_splitter s{no_header};
  s.feed(test::packet(hex("70 83 6a"), 4));
  auto f = take(s);
  CHECK(f.kind == frame_kind::signal);
  CHECK(equal(f.body, hex("83 6a")));
}

TEST_CASE("atom cache references that were not offered are malformed") {
  CHECK(is_malformed(our_flags, test::packet(hex("83 44 01 08 01 6a"), 4)));
  auto f = fragment(true, 1, 1, {});
  f.back() = std::byte{1};
  CHECK(is_malformed(our_flags, f));
}

TEST_CASE("what is no packet at all is malformed") {
  CHECK(is_malformed(our_flags, test::packet(hex("00"), 4)));
  CHECK(is_malformed(our_flags, test::packet(hex("83"), 4)));
  CHECK(is_malformed(our_flags, test::packet(hex("83 44"), 4)));
  CHECK(is_malformed(our_flags, test::packet(hex("83 47 00"), 4)));
  CHECK(is_malformed(our_flags, test::packet(hex("84 44 00"), 4)));
  CHECK(
      is_malformed(our_flags, test::packet(hex("83 45 0000000000000001"), 4)));
  auto f = fragment(true, 1, 1, {});
  f.pop_back(); // no room for the number of references
  f[3] = std::byte{18};
  CHECK(is_malformed(our_flags, f));
}

TEST_CASE("a signal over the cap is skipped, and what follows is not") {
  constexpr std::size_t cap = 100;
  for (std::size_t piece : {1U, 3U, 50U, 1'000U}) {
    CAPTURE(piece);
    frame_splitter s{our_flags, cap};
    auto stream = join(signal(bytes(500)), fragment(false, 3, 2, bytes(400)),
                       fragment(true, 4, 2, bytes(400)), signal(text("after")));
    std::vector<frame> seen;
    bool was_after = false;
    std::size_t most = 0;
    for (std::span<const std::byte> left{stream}; !left.empty();) {
      auto n = std::min(piece, left.size());
      s.feed(left.first(n));
      left = left.subspan(n);
      for (auto f = s.next(); f && *f; f = s.next()) {
        seen.push_back(**f);
        was_after = equal((*f)->body, text("after"));
      }
      most = std::max(most, s.buffered());
    }
    REQUIRE(seen.size() == 4);
    CHECK(seen[0].kind == frame_kind::signal);
    CHECK(seen[0].is_oversize);
    CHECK(seen[1].kind == frame_kind::next_fragment);
    CHECK(seen[1].is_oversize);
    CHECK(seen[1].sequence_id == 3);
    CHECK(seen[1].fragment_id == 2);
    CHECK(seen[2].kind == frame_kind::first_fragment);
    CHECK(seen[2].is_oversize);
    CHECK_FALSE(seen[3].is_oversize);
    CHECK(was_after);
    CHECK(most <= cap + 4 + piece);
  }
}

TEST_CASE("a malformed packet over the cap is malformed, not skipped") {
  frame_splitter s{our_flags, 100};
  s.feed(
      join(number(1'000, 4), hex("ff 00 00 00 00 00 00 00 00 00"), bytes(20)));
  CHECK_FALSE(s.next());
}

TEST_CASE("a length alone reserves no memory") {
  frame_splitter s{our_flags, std::size_t{1} << 31};
  s.feed(join(number(0x7fffffff, 4), hex("83 44 00")));
  CHECK(is_waiting(s));
  CHECK(s.prepare(100).size() < 100'000);
}

TEST_CASE("bytes can be read straight into the splitter") {
  frame_splitter s{our_flags};
  auto stream = signal(bytes(100'000, std::byte{9}));
  for (std::span<const std::byte> left{stream}; !left.empty();) {
    auto room = s.prepare(1'000);
    REQUIRE(room.size() >= 1'000);
    auto n = std::min(room.size(), left.size());
    std::ranges::copy(left.first(n), room.begin());
    s.commit(n);
    left = left.subspan(n);
  }
  CHECK(take(s).body.size() == 100'000);
  CHECK(is_waiting(s));
}

TEST_CASE("headers are written as the splitter reads them") {
  for (auto flags : {our_flags, no_header}) {
    bytes out;
    append_tick(out);
    append_signal_header(out, flags, 3);
    out = join(out, text("abc"));
    frame_splitter s{flags};
    s.feed(out);
    CHECK(take(s).kind == frame_kind::tick);
    CHECK(equal(take(s).body, text("abc")));
  }
  bytes out;
  append_fragment_header(out, true, 1, 2, 1);
  CHECK(join(out, hex("aa")) == fragment(true, 1, 2, hex("aa")));
  out.clear();
  append_fragment_header(out, false, 1, 1, 1);
  CHECK(join(out, hex("aa")) == fragment(false, 1, 1, hex("aa")));
}
