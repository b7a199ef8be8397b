#include "epmd/codec.hpp"

#include "../data/dist_golden.hpp"
#include "../dist/hex.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

using namespace esp::epmd;
using esp::errc;
using bytes = std::vector<std::byte>;

namespace {

bytes of(std::string_view s) {
  auto b = std::as_bytes(std::span{s.data(), s.size()});
  return {b.begin(), b.end()};
}

using namespace std::string_view_literals;

const auto port_reply = test::hex(golden::epmd_port_of_cap);
const auto alive_reply = test::hex(golden::epmd_alive);

} // namespace

TEST_CASE("a registration says port, type and versions 6 to 6") {
  auto out = encode_alive("esp_a", 0x1234, true);
  REQUIRE(out.has_value());
  CHECK(*out
        == of("\x00\x12\x78\x12\x34\x48\x00\x00\x06\x00\x06\x00\x05"
              "esp_a\x00\x00"sv));
  auto visible = encode_alive("a", 1, false);
  REQUIRE(visible.has_value());
  CHECK((*visible)[5] == std::byte{77});
}

TEST_CASE("a name that epmd cannot hold is refused before it is sent") {
  for (auto name : {std::string{}, std::string(256, 'a'), std::string{"a@h"}}) {
    CAPTURE(name);
    auto alive = encode_alive(name, 1, true);
    REQUIRE_FALSE(alive.has_value());
    CHECK(alive.error().code == errc::badarg);
    CHECK_FALSE(encode_port_please(name).has_value());
  }
  CHECK(encode_port_please(std::string(255, 'a')).has_value());
}

TEST_CASE("the creation of a registration is read from both replies") {
  auto x = decode_alive_reply(alive_reply);
  REQUIRE(x.has_value());
  CHECK(test::join(test::hex("76 00"), test::number(*x, 4)) == alive_reply);
  auto old = decode_alive_reply(of("\x79\x00\x00\x03"sv));
  REQUIRE(old.has_value());
  CHECK(*old == 3);
}

TEST_CASE("a name that is taken is an error of its own") {
  auto r = decode_alive_reply(of("\x76\x01\x00\x00\x00\x63"sv));
  REQUIRE_FALSE(r.has_value());
  CHECK(r.error().code == errc::already);
}

TEST_CASE("a look-up is the name behind its tag") {
  auto out = encode_port_please("cap");
  REQUIRE(out.has_value());
  CHECK(*out
        == of("\x00\x04\x7a"
              "cap"sv));
}

TEST_CASE("a node's entry is read from the reply") {
  auto r = decode_port_reply(test::hex(golden::epmd_port_of_esp_a));
  REQUIRE(r.has_value());
  CHECK(r->port == 0x1234);
  CHECK(r->is_hidden);
  CHECK(r->highest_version == 6);
  CHECK(r->lowest_version == 6);
  CHECK(r->name == "esp_a");
  auto cap = decode_port_reply(port_reply);
  REQUIRE(cap.has_value());
  CHECK(cap->port > 1'024);
  CHECK(cap->highest_version == 6);
  CHECK(cap->name == "cap");
}

TEST_CASE("a name that epmd does not know is not found") {
  auto r = decode_port_reply(test::hex(golden::epmd_port_of_nobody));
  REQUIRE_FALSE(r.has_value());
  CHECK(r.error().code == errc::not_found);
}

TEST_CASE("a reply cut short is an error, not a crash") {
  for (std::size_t n = 0; n < port_reply.size(); ++n) {
    auto r = decode_port_reply(std::span{port_reply}.first(n));
    REQUIRE_FALSE(r.has_value());
    CHECK(r.error().code == errc::truncated);
  }
  for (std::size_t n = 0; n < alive_reply.size(); ++n) {
    auto r = decode_alive_reply(std::span{alive_reply}.first(n));
    REQUIRE_FALSE(r.has_value());
    CHECK(r.error().code == errc::truncated);
  }
  for (auto text :
       {""sv, "\x00\x00\x11"sv, "\x00\x00\x11\x11name a at port 1"sv}) {
    auto r = decode_names_reply(of(text));
    REQUIRE_FALSE(r.has_value());
    CHECK(r.error().code == errc::truncated);
  }
}

TEST_CASE("a reply to another question is malformed") {
  auto r = decode_port_reply(alive_reply);
  REQUIRE_FALSE(r.has_value());
  CHECK(r.error().code == errc::malformed);
  auto a = decode_alive_reply(port_reply);
  REQUIRE_FALSE(a.has_value());
  CHECK(a.error().code == errc::malformed);
}

TEST_CASE("the list of names is read line by line") {
  CHECK(encode_names() == of("\x00\x01\x6e"sv));
  auto r = decode_names_reply(of("\x00\x00\x11\x11"
                                 "name cap at port 40001\n"
                                 "name b at port c at port 2\n"sv));
  REQUIRE(r.has_value());
  REQUIRE(r->size() == 2);
  CHECK((*r)[0].name == "cap");
  CHECK((*r)[0].port == 40'001);
  CHECK((*r)[1].name == "b at port c");
  CHECK((*r)[1].port == 2);
  auto real = decode_names_reply(test::hex(golden::epmd_names));
  REQUIRE(real.has_value());
  CHECK(std::ranges::any_of(*real, [](const name_entry& e) {
    return e.name == "esp_a" && e.port == 0x1234;
  }));
  auto none = decode_names_reply(of("\x00\x00\x11\x11"sv));
  REQUIRE(none.has_value());
  CHECK(none->empty());
}

TEST_CASE("a line that is no name and port is malformed") {
  for (auto line : {"hello\n"sv, "name a at port\n"sv, "name a at port x\n"sv,
                    "name a at port 65536\n"sv, "name a at port -1\n"sv,
                    "name a at port 1 \n"sv, "name  at port 1\n"sv, "\n"sv}) {
    CAPTURE(line);
    auto r = decode_names_reply(
        of(std::string{"\x00\x00\x11\x11"sv} + std::string{line}));
    CHECK_FALSE(r.has_value());
  }
}
