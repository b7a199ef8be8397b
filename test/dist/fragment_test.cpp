#include "dist/fragment.hpp"

#include "hex.hpp"

#include <doctest/doctest.h>

#include <algorithm>

using namespace esp::dist;
using esp::errc;
using outcome = fragment_joiner::outcome;
using test::bytes;
using test::join;
using test::text;

namespace {

frame first(std::uint64_t sequence, std::uint64_t id, const bytes& body) {
  return {.kind = frame_kind::first_fragment,
          .sequence_id = sequence,
          .fragment_id = id,
          .body = body};
}

frame next(std::uint64_t sequence, std::uint64_t id, const bytes& body) {
  auto f = first(sequence, id, body);
  f.kind = frame_kind::next_fragment;
  return f;
}

outcome added(fragment_joiner& j, const frame& f) {
  auto r = j.add(f);
  REQUIRE(r.has_value());
  return *r;
}

errc refused(fragment_joiner& j, const frame& f) {
  auto r = j.add(f);
  REQUIRE_FALSE(r.has_value());
  return r.error().code;
}

const bytes ab = text("ab"), cd = text("cd"), ef = text("ef");

} // namespace

TEST_CASE("fragments that arrive interleaved are each joined in order") {
  fragment_joiner j;
  CHECK(added(j, first(1, 3, ab)) == outcome::incomplete);
  CHECK(added(j, first(2, 2, ef)) == outcome::incomplete);
  CHECK(added(j, next(1, 2, cd)) == outcome::incomplete);
  CHECK(j.sequences() == 2);
  CHECK(j.total() == 6);
  CHECK(added(j, next(2, 1, ab)) == outcome::complete);
  CHECK(std::ranges::equal(j.body(), text("efab")));
  CHECK(added(j, next(1, 1, ef)) == outcome::complete);
  CHECK(std::ranges::equal(j.body(), text("abcdef")));
  CHECK(j.sequences() == 0);
  CHECK(j.total() == 0);
  j.forget_body();
  CHECK(j.body().empty());
}

TEST_CASE("a sequence of one fragment is whole at once") {
  fragment_joiner j;
  CHECK(added(j, first(1, 1, ab)) == outcome::complete);
  CHECK(std::ranges::equal(j.body(), ab));
}

TEST_CASE("a sequence id may be used again once it is done") {
  fragment_joiner j;
  for (int i = 0; i < 3; ++i) {
    CHECK(added(j, first(1, 2, ab)) == outcome::incomplete);
    CHECK(added(j, next(1, 1, cd)) == outcome::complete);
  }
}

TEST_CASE("fragments out of order, unknown or doubled are malformed") {
  fragment_joiner skipped;
  (void)added(skipped, first(1, 3, ab));
  CHECK(refused(skipped, next(1, 1, cd)) == errc::malformed);
  fragment_joiner repeated;
  (void)added(repeated, first(1, 3, ab));
  CHECK(refused(repeated, next(1, 3, cd)) == errc::malformed);
  fragment_joiner in_use;
  (void)added(in_use, first(1, 3, ab));
  CHECK(refused(in_use, first(1, 3, ab)) == errc::malformed);
  fragment_joiner unknown;
  CHECK(refused(unknown, next(1, 1, ab)) == errc::malformed);
  fragment_joiner after_the_end;
  (void)added(after_the_end, first(1, 1, ab));
  CHECK(refused(after_the_end, next(1, 1, ab)) == errc::malformed);
  fragment_joiner zero;
  CHECK(refused(zero, first(1, 0, ab)) == errc::malformed);
}

TEST_CASE("a signal over the cap is dropped with the rest of its fragments") {
  fragment_joiner j{{.max_signal = 5}};
  CHECK(added(j, first(1, 5, ab)) == outcome::incomplete);
  CHECK(added(j, first(2, 2, ab)) == outcome::incomplete);
  CHECK(added(j, next(1, 4, cd)) == outcome::incomplete);
  CHECK(added(j, next(1, 3, ef)) == outcome::dropped);
  CHECK(j.total() == 2);
  CHECK(j.sequences() == 1);
  CHECK(added(j, next(1, 2, ef)) == outcome::swallowed);
  CHECK(added(j, next(2, 1, cd)) == outcome::complete); // its neighbour lives
  CHECK(added(j, next(1, 1, ef)) == outcome::swallowed);
  CHECK(added(j, first(1, 1, ab)) == outcome::complete); // the id is free
}

TEST_CASE("a dropped sequence is still held to its order") {
  fragment_joiner j{{.max_signal = 1}};
  CHECK(added(j, first(1, 5, ab)) == outcome::dropped);
  CHECK(refused(j, next(1, 3, ab)) == errc::malformed);
}

TEST_CASE("a signal whose last fragment is one too many is dropped once") {
  fragment_joiner j{{.max_signal = 3}};
  CHECK(added(j, first(1, 2, ab)) == outcome::incomplete);
  CHECK(added(j, next(1, 1, cd)) == outcome::dropped);
  CHECK(j.sequences() == 0);
  CHECK(refused(j, next(1, 1, cd)) == errc::malformed);
}

TEST_CASE("an oversize fragment drops its sequence") {
  fragment_joiner j;
  (void)added(j, first(1, 3, ab));
  auto f = next(1, 2, {});
  f.is_oversize = true;
  CHECK(added(j, f) == outcome::dropped);
  CHECK(added(j, next(1, 1, ab)) == outcome::swallowed);
}

TEST_CASE("all incomplete sequences together are bounded") {
  fragment_joiner j{{.max_total = 5}};
  CHECK(added(j, first(1, 3, ab)) == outcome::incomplete);
  CHECK(added(j, first(2, 3, ab)) == outcome::incomplete);
  CHECK(added(j, first(3, 3, ab)) == outcome::dropped);
  CHECK(j.total() == 4);
  CHECK(added(j, next(3, 2, ab)) == outcome::swallowed);
  CHECK(added(j, next(2, 2, {})) == outcome::incomplete);
  CHECK(added(j, next(2, 1, {})) == outcome::complete);
  CHECK(added(j, first(4, 2, ab))
        == outcome::incomplete); // there is room again
}

TEST_CASE("sequences beyond the limit are dropped, and their memory is "
          "bounded too") {
  fragment_joiner j{{.max_sequences = 2, .max_swallowed = 2}};
  CHECK(added(j, first(1, 9, ab)) == outcome::incomplete);
  CHECK(added(j, first(2, 9, ab)) == outcome::incomplete);
  CHECK(added(j, first(3, 9, ab)) == outcome::dropped);
  CHECK(added(j, first(4, 1, ab)) == outcome::dropped); // nothing to remember
  CHECK(added(j, first(4, 9, ab)) == outcome::dropped);
  CHECK(j.sequences() == 2);
  CHECK(refused(j, first(5, 9, ab)) == errc::system_limit);
}

TEST_CASE("the default limits are those of the issue") {
  fragment_limits limits;
  CHECK(limits.max_signal == 128U << 20);
  CHECK(limits.max_total == 128U << 20);
  CHECK(limits.max_sequences == 1'024);
}

TEST_CASE("what the cutter cuts the joiner joins") {
  for (std::size_t size : {0U, 1U, 65'526U, 65'527U, 65'528U, 200'000U}) {
    CAPTURE(size);
    bytes head(10, std::byte{1});
    auto payload = esp::term::binary(std::string(size, 'x'));
    auto whole = join(head, payload.bytes());
    fragment_cutter cutter{77, head, payload};
    bytes out;
    std::size_t frames = 1;
    while (cutter.append_next(out)) {
      ++frames;
    }
    CHECK_FALSE(cutter.append_next(out));
    CHECK(frames == (whole.size() + fragment_size - 1) / fragment_size);

    frame_splitter splitter{our_flags};
    splitter.feed(out);
    fragment_joiner joiner;
    auto last = outcome::incomplete;
    for (auto f = splitter.next(); f && *f; f = splitter.next()) {
      CHECK((*f)->body.size() <= fragment_size);
      CHECK((*f)->sequence_id == 77);
      last = added(joiner, **f);
    }
    CHECK(last == outcome::complete);
    CHECK(std::ranges::equal(joiner.body(), whole));
  }
}
