#include "dist/control.hpp"

#include "../data/dist_golden.hpp"
#include "hex.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

// Inside, so that link, send and exit are ours and not the operating system's.
namespace esp::dist {

using test::bytes;
using test::hex;
using test::join;

namespace {

framing framing_of(std::uint64_t flags) {
  return has_dist_header(flags) ? framing::dist_header : framing::pass_through;
}

// The packet as a connection would get it, and its body.
bytes body_of(const golden::signal& g) {
  frame_splitter s{g.flags};
  s.feed(test::packet(hex(g.packet), 4));
  auto f = s.next();
  REQUIRE(f.has_value());
  REQUIRE(f->has_value());
  REQUIRE((*f)->kind == frame_kind::signal);
  return {(*f)->body.begin(), (*f)->body.end()};
}

const golden::signal& named(std::string_view name) {
  for (const auto& g : golden::built) {
    if (g.name == name) {
      return g;
    }
  }
  REQUIRE_MESSAGE(false, name);
  return golden::built[0];
}

template <class Signal>
Signal read(std::string_view name) {
  const auto& g = named(name);
  auto c = decode_control(body_of(g), framing_of(g.flags));
  REQUIRE(c.has_value());
  REQUIRE(std::holds_alternative<Signal>(*c));
  return std::get<Signal>(*c);
}

const pid a{atom{"a@127.0.0.1"}, 9, 0, 0x6b0404fc};
const pid coop{atom{"coop@127.0.0.1"}, 4, 0, 0x6b040504};
const ref r{a.node, a.creation, 3, {1, 2, 3}};
const ref alias_ref{coop.node, coop.creation, 5, {1, 2, 3, 4, 5}};
const term hello{atom{"hello"}};

term token() {
  return term::tuple({term::integer(1), term{atom{"label"}}, term::integer(5),
                      term{a}, term::integer(4)});
}

// Control tuples for what OTP never sends, written in the external format.
bytes pid_bytes(const pid& p) {
  auto t = term{p};
  return {t.bytes().begin(), t.bytes().end()};
}
bytes ref_bytes(const ref& p) {
  auto t = term{p};
  return {t.bytes().begin(), t.bytes().end()};
}
template <class... Element>
bytes tuple(unsigned op, const Element&... elements) {
  return join(bytes{std::byte{104}, std::byte{1 + sizeof...(elements)},
                    std::byte{97}, static_cast<std::byte>(op)},
              elements...);
}
const bytes A = pid_bytes(a), C = pid_bytes(coop), R = ref_bytes(r);
const bytes empty_atom = hex("77 00"), name = hex("77 01 61"), nil = hex("6a");
bytes small(unsigned n) {
  return {std::byte{97}, static_cast<std::byte>(n)};
}

bool is_malformed(const bytes& body) {
  auto c = decode_control(body);
  return !c && c.error().code == errc::malformed && !c.error().what.empty();
}

std::string encoded(const control& c, std::uint64_t flags = our_flags) {
  auto out = encode_control(c, flags);
  return {reinterpret_cast<const char*>(out.data()), out.size()};
}

// The operation that is written; 0 if nothing is.
unsigned op_of(const control& c, std::uint64_t flags) {
  auto out = encode_control(c, flags);
  return out.empty() ? 0 : std::to_integer<unsigned>(out[3]);
}

constexpr std::uint64_t without(std::uint64_t flags) {
  return our_flags & ~flags;
}

TEST_CASE("what a real node sends is read, and written again byte for byte") {
  auto check = [](const golden::signal& g) {
    CAPTURE(g.name);
    auto body = body_of(g);
    auto c = decode_control(body, framing_of(g.flags));
    REQUIRE_MESSAGE(c.has_value(), g.name);
    CHECK(encode_control(*c, g.flags) == body);
    bytes out;
    std::uint64_t sequence = 1;
    CHECK(append_frame(out, *c, g.flags, sequence));
    CHECK(out == test::packet(hex(g.packet), 4));
    CHECK(sequence == 1);
  };
  for (const auto& g : golden::sent) {
    check(g);
  }
  for (const auto& g : golden::built) {
    // We write no exit to a name of our own accord, but pass one on.
    check(g);
  }
}

TEST_CASE("a real node's signal cut short at any byte is malformed") {
  auto check = [](const golden::signal& g) {
    auto body = body_of(g);
    for (std::size_t n = 0; n < body.size(); ++n) {
      CAPTURE(g.name);
      CAPTURE(n);
      auto c = decode_control(std::span{body}.first(n), framing_of(g.flags));
      REQUIRE_FALSE(c.has_value());
      REQUIRE(c.error().code == errc::malformed);
    }
    body.push_back(std::byte{106});
    auto c = decode_control(body, framing_of(g.flags));
    REQUIRE_FALSE(c.has_value());
  };
  for (const auto& g : golden::sent) {
    check(g);
  }
  for (const auto& g : golden::built) {
    check(g);
  }
}

TEST_CASE("the example of the protocol document is a link") {
  const auto& g = named("the LINK of protocol.md");
  CHECK(hex(g.packet)
        == hex("83 44 00 68 03 61 01"
               "58 77 0b 6140 3132372e302e302e31 00000009 00000000 6b0404fc"
               "58 77 0e 636f6f7040 3132372e302e302e31 00000004 00000000"
               "6b040504"));
  auto l = read<link>(g.name);
  CHECK(l.from == a);
  CHECK(l.to == coop);
}

TEST_CASE("unlink carries its id, and op 4 none") {
  CHECK(read<unlink>("unlink of old").id == 0);
  CHECK(read<unlink>("unlink").id == 1);
  CHECK(read<unlink>("unlink, a large id").id == ~std::uint64_t{0});
  CHECK(read<unlink>("unlink, an id of 32 bits").id == 0x80000000);
  auto u = read<unlink>("unlink, an id of 31 bits");
  CHECK(u.id == 0x7fffffff);
  CHECK(u.from == a);
  CHECK(u.to == coop);
  auto ack = read<unlink_ack>("unlink acknowledged");
  CHECK(ack.id == 256);
  CHECK(ack.from == a);
  CHECK(ack.to == coop);
}

TEST_CASE("monitors go by pid or by name, both ways") {
  auto by_pid = read<monitor>("monitor by pid");
  CHECK(by_pid.from == a);
  CHECK(std::get<pid>(by_pid.to) == coop);
  CHECK(by_pid.ref == r);
  auto by_name = read<monitor>("monitor by name");
  CHECK(std::get<atom>(by_name.to) == atom{"coop"});
  auto no_more = read<demonitor>("demonitor by pid");
  CHECK(std::get<pid>(no_more.to) == coop);
  CHECK(no_more.ref == r);
  auto down = read<monitor_exit>("monitor exit by pid");
  CHECK(std::get<pid>(down.from) == coop);
  CHECK(down.to == a);
  CHECK(down.ref == r);
  CHECK(down.reason.is_atom("noproc"));
  for (auto by : {"monitor exit by name", "monitor exit of old"}) {
    CHECK(std::get<atom>(read<monitor_exit>(by).from) == atom{"coop"});
  }
  CHECK(read<monitor_exit>("monitor exit of old").reason.is_atom("noproc"));
}

TEST_CASE("a token is the last element, except where a reason is") {
  for (auto form : {"exit of old", "exit of old with token"}) {
    auto e = read<exit>(form);
    CHECK(e.from == a);
    CHECK(e.to == coop);
    CHECK(e.reason.is_tagged("a", 2));
  }
  CHECK_FALSE(read<exit>("exit of old").token);
  CHECK(read<exit>("exit of old with token").token == token());
  CHECK(read<exit2>("exit2 of old with token").token == token());
  CHECK(read<exit2>("exit2 of old with token").reason.is_atom("shutdown"));
  CHECK(read<exit2>("exit2 with token").token == token());
  CHECK(read<exit2>("exit2 with token").reason.is_tagged("a", 2));
  CHECK(read<send>("message of old with token").token == token());
  CHECK(read<spawn_reply>("spawn reply with token").token == token());
}

TEST_CASE("messages to pids and aliases, of each release") {
  auto old = read<send>("message of old");
  CHECK_FALSE(old.from);
  CHECK(std::get<pid>(old.to) == coop);
  CHECK(old.message == hello);
  for (auto form : {"alias message of 25", "alias message of 28"}) {
    auto s = read<send>(form);
    CHECK(s.from == a);
    CHECK(std::get<ref>(s.to) == alias_ref);
    CHECK(s.message.arity() == 2);
    CHECK_FALSE(s.token);
    CHECK_FALSE(s.priority);
  }
  CHECK(read<send>("alias message of 28 with token").token == token());
  auto s = read<send>("priority message of 28 with token");
  CHECK(s.priority);
  CHECK(s.token == token());
  CHECK(std::get<pid>(s.to) == coop);
  auto named_one = read<reg_send>("priority message to a name of 28");
  CHECK(named_one.priority);
  CHECK(named_one.to == atom{"coop"});
  CHECK(named_one.from == a);
  CHECK(std::get<ref>(read<send>("priority message to an alias of 28").to)
        == alias_ref);
}

TEST_CASE("exits of 28 go to pids, aliases and names") {
  auto e = read<exit2>("priority exit of 28 with token");
  CHECK(e.priority);
  CHECK(e.to == coop);
  CHECK(e.token == token());
  CHECK(e.reason.is_atom("why"));
  auto to_alias = read<exit2>("exit to an alias of 28");
  CHECK_FALSE(to_alias.priority);
  CHECK(std::get<ref>(to_alias.instead) == alias_ref);
  CHECK(std::get<atom>(read<exit2>("exit to a name of 28").instead)
        == atom{"coop"});
}

TEST_CASE("op 37 ignores flags and elements that we do not know") {
  auto message = hex("61 05");
  auto c =
      decode_control(join(tuple(37, small(0x80 | 1), A, C, nil, nil), message));
  REQUIRE(c.has_value());
  CHECK(std::get<send>(*c).priority);
  CHECK_FALSE(std::get<send>(*c).token);
  // An integer of nine bytes with the lowest bit set.
  auto big = hex("6e 09 00 01 00 00 00 00 00 00 00 01");
  auto wide = decode_control(join(tuple(37, big, A, C), message));
  REQUIRE(wide.has_value());
  CHECK(std::get<send>(*wide).priority);
}

TEST_CASE("op 37 that contradicts itself is malformed") {
  auto message = hex("61 05");
  CHECK(is_malformed(join(tuple(37, small(4 | 8), A, R), message)));
  CHECK(is_malformed(join(tuple(37, small(2), A, C), message))); // no token
  CHECK(is_malformed(join(tuple(37, small(4), A, C), message)));
  CHECK(is_malformed(join(tuple(37, small(8), A, C), message)));
  CHECK(is_malformed(join(tuple(37, small(0), A, R), message)));
  CHECK(is_malformed(join(tuple(37, hex("62 ff ff ff ff"), A, C), message)));
  CHECK(is_malformed(
      join(tuple(37, hex("6e 09 01 000000000000000001"), A, C), message)));
  CHECK(is_malformed(join(tuple(37, name, A, C), message)));
  CHECK(is_malformed(tuple(37, small(1), A, C))); // no payload
}

TEST_CASE("spawn requests and replies") {
  auto s = read<spawn_request>("spawn request");
  CHECK(s.ref == r);
  CHECK(s.from == a);
  CHECK(s.leader == a);
  CHECK(s.module == atom{"m"});
  CHECK(s.function == atom{"f"});
  CHECK(s.arity == 2);
  REQUIRE(s.options.as_list());
  CHECK(s.options.as_list()->size() == 2);
  REQUIRE(s.args.as_list());
  CHECK(s.args.as_list()->size() == 2);
  CHECK(read<spawn_request>("spawn request, args a string").arity == 2);
  CHECK(read<spawn_request>("spawn request, no args").arity == 0);
  CHECK(read<spawn_request>("spawn request with token").token == token());

  auto reply = read<spawn_reply>("spawn reply");
  CHECK(reply.linked);
  CHECK(reply.monitored);
  CHECK(reply.ref == r);
  CHECK(reply.to == a);
  CHECK(std::get<pid>(reply.result) == coop);
  CHECK(read<spawn_reply>("spawn reply, linked").linked);
  CHECK_FALSE(read<spawn_reply>("spawn reply, linked").monitored);
  CHECK(std::get<atom>(read<spawn_reply>("spawn reply, an error").result)
        == atom{"badopt"});
}

TEST_CASE("what OTP closes a connection for is malformed (section 20)") {
  SUBCASE("an unknown operation") {
    for (unsigned op : {0U, 5U, 9U, 10U, 11U, 14U, 15U, 17U, 38U, 255U}) {
      CAPTURE(op);
      CHECK(is_malformed(tuple(op, A, C)));
    }
    CHECK(is_malformed(hex("68 01 62 ff ff ff ff"))); // -1
    CHECK(is_malformed(join(hex("68 03 77 01 61"), A, C)));
  }
  SUBCASE("no tuple, or none at all") {
    CHECK(is_malformed({}));
    CHECK(is_malformed(nil));
    CHECK(is_malformed(hex("68 00")));
    CHECK(is_malformed(join(hex("6c 00 00 00 02 61 01"), A, nil)));
  }
  SUBCASE("a wrong tuple size") {
    CHECK(is_malformed(tuple(1, A)));
    CHECK(is_malformed(tuple(1, A, C, C)));
    CHECK(is_malformed(join(tuple(22, A), nil)));
    CHECK(is_malformed(join(tuple(22, A, C, C), nil)));
    CHECK(is_malformed(join(tuple(37, small(0), A), nil)));
  }
  SUBCASE("a missing or surplus payload") {
    CHECK(is_malformed(tuple(22, A, C)));
    CHECK(is_malformed(tuple(24, A, C)));
    CHECK(is_malformed(tuple(6, A, empty_atom, name)));
    CHECK(is_malformed(join(tuple(1, A, C), nil)));
    CHECK(is_malformed(join(tuple(22, A, C), nil, nil)));
    CHECK(is_malformed(join(tuple(22, A, C), hex("ff"))));
  }
  SUBCASE("a wrong kind of element") {
    CHECK(is_malformed(tuple(1, A, name)));
    CHECK(is_malformed(tuple(1, R, C)));
    CHECK(is_malformed(join(tuple(2, A, C), nil)));
    CHECK(is_malformed(join(tuple(22, empty_atom, C), nil)));
    CHECK(is_malformed(join(tuple(22, A, R), nil)));
    CHECK(is_malformed(join(tuple(33, A, C), nil)));
    CHECK(is_malformed(join(tuple(6, A, empty_atom, C), nil)));
    CHECK(is_malformed(tuple(19, A, R, R)));
    CHECK(is_malformed(tuple(19, A, C, C)));
    CHECK(is_malformed(tuple(20, name, C, R)));
    CHECK(is_malformed(join(tuple(28, nil, A, R), nil)));
    CHECK(is_malformed(tuple(7, A, nil)));
    CHECK(is_malformed(tuple(35, name, A, C)));
    CHECK(is_malformed(tuple(31, R, A, small(0), nil)));
    CHECK(is_malformed(tuple(31, R, A, nil, C)));
    CHECK(is_malformed(tuple(31, R, A, hex("62 08 00 00 00"), C)));
  }
  SUBCASE("an unlink id of 0, or below, or too large") {
    CHECK(is_malformed(tuple(35, small(0), A, C)));
    CHECK(is_malformed(tuple(35, hex("62 ff ff ff ff"), A, C)));
    CHECK(is_malformed(
        tuple(35, hex("6e 09 00 00 00 00 00 00 00 00 00 01"), A, C)));
    CHECK(decode_control(tuple(36, small(0), A, C)).has_value());
  }
  SUBCASE("a bad spawn request") {
    auto mfa = [](unsigned arity) {
      return join(hex("68 03 77 01 6d 77 01 66"), small(arity));
    };
    auto one = hex("6c 00 00 00 01 61 01 6a");
    auto improper = hex("6c 00 00 00 01 61 01 61 02");
    CHECK(decode_control(join(tuple(29, R, A, A, mfa(1), nil), one)));
    CHECK(is_malformed(join(tuple(29, R, A, A, mfa(2), nil), one)));
    CHECK(is_malformed(join(tuple(29, R, A, A, mfa(1), nil), improper)));
    CHECK(is_malformed(join(tuple(29, R, A, A, mfa(1), nil), name)));
    CHECK(is_malformed(join(tuple(29, R, A, A, mfa(1), improper), one)));
    CHECK(is_malformed(join(tuple(29, R, A, A, mfa(1), name), one)));
    CHECK(is_malformed(join(tuple(29, A, A, A, mfa(1), nil), one)));
    CHECK(is_malformed(join(tuple(29, R, A, nil, mfa(1), nil), one)));
    CHECK(is_malformed(join(tuple(29, R, A, A, nil, nil), one)));
    CHECK(is_malformed(
        join(tuple(29, R, A, A, hex("68 02 77 01 6d 77 01 66"), nil), one)));
    CHECK(is_malformed(join(
        tuple(29, R, A, A, join(hex("68 03 61 01 77 01 66"), small(1)), nil),
        one)));
    CHECK(is_malformed(tuple(29, R, A, A, mfa(0), nil)));
  }
  SUBCASE("a payload nested too deeply") {
    bytes deep;
    for (int i = 0; i < 10'001; ++i) {
      deep = join(std::move(deep), hex("68 01"));
    }
    auto c = decode_control(join(tuple(22, A, C), deep, nil));
    REQUIRE_FALSE(c.has_value());
    CHECK(c.error().code == errc::too_deep);
  }
  SUBCASE("the framing of the other kind") {
    auto body = tuple(1, A, C);
    auto magic = hex("83");
    CHECK_FALSE(decode_control(body, framing::pass_through));
    CHECK(decode_control(join(magic, body), framing::pass_through));
    CHECK(is_malformed(join(magic, body)));
    CHECK_FALSE(decode_control(join(magic, tuple(22, A, C), nil),
                               framing::pass_through));
  }
}

TEST_CASE("a cache reference is malformed, since no cache was offered") {
  CHECK(is_malformed(join(tuple(22, A, C), hex("52 00"))));
}

TEST_CASE("a signal in the name of a third node is told from an own one") {
  auto peer = a.node;
  CHECK(check_origin(link{a, coop}, peer));
  CHECK_FALSE(check_origin(link{coop, a}, peer));
  CHECK_FALSE(check_origin(unlink{1, coop, a}, peer));
  CHECK_FALSE(check_origin(unlink_ack{1, coop, a}, peer));
  CHECK_FALSE(check_origin(exit{coop, a, hello, {}}, peer));
  CHECK_FALSE(check_origin(exit2{coop, a, hello, {}}, peer));
  CHECK_FALSE(check_origin(monitor{coop, a, r}, peer));
  CHECK_FALSE(check_origin(demonitor{coop, a, r}, peer));
  CHECK_FALSE(check_origin(monitor_exit{coop, a, r, hello}, peer));
  CHECK(check_origin(monitor_exit{atom{"x"}, a, r, hello}, peer));
  CHECK(check_origin(send{coop, a, hello, {}}, peer));
  spawn_request s{r, a, a, atom{"m"}, atom{"f"}, 0, {}, {}, {}};
  CHECK(check_origin(s, peer));
  s.ref = alias_ref;
  CHECK_FALSE(check_origin(s, peer));
}

TEST_CASE("each peer gets the forms that it understands") {
  send to_alias{a, alias_ref, hello, {}};
  send to_pid{a, coop, hello, {}};
  auto priority = to_pid;
  priority.priority = true;
  exit2 at_alias{a, {}, hello, {}};
  at_alias.instead = alias_ref;
  auto no37 = without(dflag::altact_sig);

  CHECK(op_of(to_alias, our_flags) == 37);
  CHECK(op_of(to_alias, no37) == 33);
  CHECK(op_of(to_alias, no37 & ~dflag::alias) == 0);
  CHECK(op_of(send{std::nullopt, alias_ref, hello, {}}, our_flags) == 0);
  CHECK(op_of(to_pid, our_flags) == 22);
  CHECK(op_of(to_pid, without(dflag::send_sender)) == 2);
  CHECK(op_of(send{std::nullopt, coop, hello, {}}, our_flags) == 2);
  CHECK(op_of(send{a, coop, hello, token()}, our_flags) == 23);
  CHECK(op_of(priority, our_flags) == 37);
  CHECK(op_of(priority, no37) == 22);
  CHECK(op_of(reg_send{a, atom{"x"}, hello, {}, true}, our_flags) == 37);
  CHECK(op_of(reg_send{a, atom{"x"}, hello, {}, true}, no37) == 6);
  CHECK(op_of(at_alias, our_flags) == 37);
  CHECK(op_of(at_alias, no37) == 0);

  CHECK(op_of(unlink{1, a, coop}, our_flags) == 35);
  CHECK(op_of(unlink{1, a, coop}, without(dflag::unlink_id)) == 4);
  CHECK(op_of(unlink{0, a, coop}, our_flags) == 0);
  CHECK(op_of(unlink_ack{1, a, coop}, our_flags) == 36);
  CHECK(op_of(unlink_ack{1, a, coop}, without(dflag::unlink_id)) == 0);

  auto no_payload = without(dflag::exit_payload);
  CHECK(op_of(exit{a, coop, hello, {}}, our_flags) == 24);
  CHECK(op_of(exit{a, coop, hello, {}}, no_payload) == 3);
  CHECK(op_of(exit2{a, coop, hello, {}}, our_flags) == 26);
  CHECK(op_of(exit2{a, coop, hello, token()}, our_flags) == 27);
  CHECK(op_of(exit2{a, coop, hello, {}}, no_payload) == 8);
  CHECK(op_of(monitor_exit{coop, a, r, hello}, our_flags) == 28);
  CHECK(op_of(monitor_exit{coop, a, r, hello}, no_payload) == 21);

  auto no_monitors = without(dflag::dist_monitor_name);
  CHECK(op_of(monitor{a, coop, r}, our_flags) == 19);
  CHECK(op_of(monitor{a, coop, r}, no_monitors) == 0);
  CHECK(op_of(demonitor{a, coop, r}, no_monitors) == 0);
  CHECK(op_of(monitor_exit{coop, a, r, hello}, no_monitors) == 0);
  CHECK(op_of(spawn_reply{r, a, false, false, coop, {}}, our_flags) == 31);
  CHECK(op_of(spawn_reply{r, a, false, false, coop, {}}, without(dflag::spawn))
        == 0);
}

TEST_CASE("a token whose label a peer cannot read is left out") {
  auto old = without(dflag::big_seqtrace_labels);
  auto labelled = [](const term& label) {
    return send{a, coop, hello,
                term::tuple({term::integer(1), label, term::integer(5), term{a},
                             term::integer(4)})};
  };
  CHECK(op_of(labelled(term{atom{"label"}}), our_flags) == 23);
  CHECK(op_of(labelled(term{atom{"label"}}), old) == 22);
  CHECK(op_of(labelled(term::integer(17)), old) == 23);
  CHECK(op_of(labelled(term::integer(std::int64_t{1} << 40)), old) == 22);
}

TEST_CASE("what a 23 cannot read is not sent to it") {
  auto old = without(dflag::v4_nc);
  pid wide = a;
  wide.id = 1U << 15;
  CHECK(op_of(link{wide, coop}, our_flags) == 1);
  CHECK(op_of(link{wide, coop}, old) == 0);
  wide = a;
  wide.serial = 1U << 13;
  CHECK(op_of(link{coop, wide}, old) == 0);
  CHECK(op_of(monitor{a, coop, alias_ref}, our_flags) == 19);
  CHECK(op_of(monitor{a, coop, alias_ref}, old) == 0);
  CHECK(op_of(send{a, coop, term{alias_ref}, {}}, old) == 0);
  CHECK(op_of(send{a, coop, term{r}, {}}, old) == 22);
  // A port of a small number in the wide form, tag 120, goes as 89.
  auto port = term::decode(hex("83 78 77 01 61 0000000000000007 00000009"));
  REQUIRE(port.has_value());
  CHECK(encoded(send{a, coop, *port, {}}, old)
            .ends_with(std::string(
                "\x59\x77\x01\x61\x00\x00\x00\x07\x00\x00\x00\x09", 12)));
}

TEST_CASE("nothing is appended for a signal that has no form") {
  bytes out = hex("aa");
  std::uint64_t sequence = 1;
  CHECK_FALSE(append_frame(out, unlink_ack{1, a, coop},
                           without(dflag::unlink_id), sequence));
  CHECK(out == hex("aa"));
}

TEST_CASE("append_send writes what append_frame does") {
  for (auto flags : {our_flags, without(dflag::send_sender),
                     without(dflag::v4_nc), without(dflag::fragments)}) {
    for (std::size_t size : {0U, 10U, 70'000U}) {
      CAPTURE(flags);
      CAPTURE(size);
      auto message = term::binary(std::string(size, 'x'));
      bytes one, other;
      std::uint64_t n = 5, m = 5;
      CHECK(append_send(one, a, coop, message, flags, n));
      CHECK(append_frame(other, send{a, coop, message, {}}, flags, m));
      CHECK(one == other);
      CHECK(n == m);
    }
  }
}

TEST_CASE("a large signal is cut, and comes back whole") {
  auto message = term::binary(std::string(200'000, 'x'));
  for (auto flags : {our_flags, without(dflag::fragments)}) {
    bytes out;
    std::uint64_t sequence = 9;
    CHECK(append_frame(out, send{a, coop, message, token()}, flags, sequence));
    bool is_cut = (flags & dflag::fragments) != 0;
    CHECK(sequence == (is_cut ? 10 : 9));

    frame_splitter splitter{flags};
    splitter.feed(out);
    fragment_joiner joiner;
    int frames = 0;
    bytes body;
    for (auto f = splitter.next(); f && *f; f = splitter.next(), ++frames) {
      if ((*f)->kind == frame_kind::signal) {
        body.assign((*f)->body.begin(), (*f)->body.end());
      } else {
        auto o = joiner.add(**f);
        REQUIRE(o.has_value());
        if (*o == fragment_joiner::outcome::complete) {
          body.assign(joiner.body().begin(), joiner.body().end());
        }
      }
    }
    CHECK(frames == (is_cut ? 4 : 1));
    auto c = decode_control(body, framing_of(flags));
    REQUIRE(c.has_value());
    CHECK(std::get<send>(*c).message == message);
    CHECK(std::get<send>(*c).token == token());

    auto cutter = cut_frame(send{a, coop, message, token()}, flags, sequence);
    CHECK(cutter.has_value() == is_cut);
    if (cutter) {
      bytes again;
      while (cutter->append_next(again)) {
      }
      // The same but for the sequence.
      CHECK(again.size() == out.size());
      CHECK(sequence == 11);
    }
  }
  std::uint64_t sequence = 9;
  CHECK_FALSE(cut_frame(send{a, coop, hello, {}}, our_flags, sequence));
  CHECK_FALSE(cut_frame(unlink{0, a, coop}, our_flags, sequence));
  CHECK(sequence == 9);
}

TEST_CASE("latin-1 atoms and old pids are read as what they mean") {
  // 103: pid with one byte of creation; 100: atom in latin-1.
  auto old_pid = hex("67 64 0003 e440 68 00000001 00000002 03");
  auto c = decode_control(tuple(1, old_pid, C));
  REQUIRE(c.has_value());
  auto from = std::get<link>(*c).from;
  CHECK(from.node == atom{"\xc3\xa4@h"});
  CHECK(from.id == 1);
  CHECK(from.serial == 2);
  CHECK(from.creation == 3);
}

} // namespace
} // namespace esp::dist
