// What a peer may do wrong, or out of malice, and that it hurts nobody else
// (design.md, section 11; protocol.md, sections 1, 4 and 20).

#include "base/bytes.hpp"
#include "dist/frame.hpp"
#include "epmd/client.hpp"
#include "net/io.hpp"
#include "node/peers.hpp"
#include "support/erlang.hpp"
#include "support/log_catcher.hpp"
#include "support/recording_node.hpp"
#include "support/stranger.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using esp::atom;
using esp::term;
using test::recording_node;
using test::stranger;
using test::what;

namespace {

constexpr auto us = "esp@127.0.0.1";
constexpr auto them = "stranger@127.0.0.1";
using bytes = stranger::bytes;

esp::node::peer_options options() {
  esp::node::peer_options o;
  o.node_name = us;
  o.cookie = "cookie";
  o.use_epmd = false;
  o.net_setuptime = 60s;
  return o;
}

bytes operator+(bytes a, const bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

bytes raw(std::initializer_list<int> all) {
  bytes b;
  for (int i : all) {
    b.push_back(static_cast<std::byte>(i));
  }
  return b;
}

bytes text(std::string_view s) {
  auto b = esp::base::as_bytes(s);
  return {b.begin(), b.end()};
}

bytes packet(const bytes& body) {
  bytes b;
  esp::base::writer{b}.u16(static_cast<std::uint16_t>(body.size()));
  return b + body;
}

// Length:32 and body.
bytes framed(const bytes& body) {
  bytes b;
  esp::base::writer{b}.u32(static_cast<std::uint32_t>(body.size()));
  return b + body;
}

bytes frame_of(const esp::dist::control& c) {
  bytes b;
  std::uint64_t sequence = 1;
  esp::dist::append_frame(b, c, esp::dist::our_flags, sequence);
  return b;
}

esp::pid pid_of(const std::string& node) {
  return {atom{node}, 5, 0, 77};
}

bytes greeting(int n, const std::string& from = them) {
  return frame_of(
      esp::dist::reg_send{pid_of(from), atom{"anybody"}, term::integer(n), {}});
}

// The signals of a good neighbour arrive whatever the bad one did.
class neighbour {
public:
  explicit neighbour(recording_node& n) : node_(n), s_(n->listen_port()) {
    REQUIRE(s_.shake_hands("good@127.0.0.1", us, "cookie"));
    REQUIRE(n.wait_for(what::up, "good@127.0.0.1"));
  }
  void check() {
    ++said_;
    REQUIRE(s_.say(greeting(said_, "good@127.0.0.1")));
    auto e = node_.wait_for(what::signal, "good@127.0.0.1");
    REQUIRE(e);
    CHECK(std::get<esp::dist::reg_send>(*e->signal).message
          == term::integer(said_));
  }

private:
  recording_node& node_;
  stranger s_;
  int said_ = 0;
};

// What a dialling node says up to the challenge reply.
bytes name_packet() {
  bytes b = text("N");
  esp::base::writer w{b};
  w.u64(esp::dist::our_flags);
  w.u32(77);
  w.u16(static_cast<std::uint16_t>(std::string_view{them}.size()));
  w.text(them);
  return packet(b);
}

} // namespace

TEST_CASE("a handshake cut short at any byte ends with its connection") {
  test::log_catcher log;
  recording_node n{options()};
  REQUIRE(n->start());
  neighbour good{n};
  const bytes name = name_packet();
  const bytes all = name + packet(text("r") + raw({0, 0, 0, 1}) + bytes(16));
  for (std::size_t cut = 0; cut < all.size(); ++cut) {
    stranger s{n->listen_port()};
    REQUIRE(s.say(std::span{all}.first(cut)));
    s.close();
  }
  good.check();
  CHECK(n->connected().size() == 1);
  CHECK(n.count(what::up) == 0);
}

TEST_CASE("half a handshake and then silence is closed at net_setuptime") {
  test::log_catcher log;
  auto o = options();
  o.net_setuptime = 200ms;
  recording_node n{o};
  REQUIRE(n->start());
  const bytes name = name_packet();
  for (std::size_t cut :
       {std::size_t{0}, std::size_t{1}, name.size() - 1, name.size()}) {
    stranger s{n->listen_port()};
    REQUIRE(s.say(std::span{name}.first(cut)));
    CHECK(s.is_closed_on());
  }
  CHECK(log.wait_for("not connected in time", 4));
}

TEST_CASE("a handshake fed one byte at a time works") {
  test::log_catcher log;
  recording_node n{options()};
  REQUIRE(n->start());
  stranger s{n->listen_port()};
  for (std::byte b : name_packet()) {
    REQUIRE(s.say(std::span{&b, 1}));
  }
  auto answer = s.hear_bytes(5);
  REQUIRE(answer.size() >= 5);
  CHECK(bytes(answer.begin(), answer.begin() + 5) == packet(text("sok")));
}

TEST_CASE("wrong, oversize and misplaced handshake packets are closed") {
  test::log_catcher log;
  recording_node n{options()};
  REQUIRE(n->start());
  neighbour good{n};
  const std::vector<bytes> bad{
      raw({0, 0}),       // an empty packet
      raw({0xff, 0xff}), // 65,535 bytes are to come
      packet(bytes(1'101, std::byte{'N'})),
      packet(text("n")) + bytes(16), // the name packet of version 5
      packet(text("sok")),           // a status
      packet(text("r") + bytes(20)), // a reply to no challenge
      packet(text("a") + bytes(16)), // an ack
      text("GET / HTTP/1.1\r\n\r\n"),
      name_packet() + packet(text("N") + bytes(40)),
      name_packet() + packet(text("a") + bytes(16)),
      name_packet() + packet(text("r") + bytes(3)),
      name_packet() + packet(text("r") + bytes(20)), // a wrong digest
  };
  for (const auto& b : bad) {
    CAPTURE(b.size());
    stranger s{n->listen_port()};
    s.say(b);
    CHECK(s.is_closed_on());
  }
  good.check();
  CHECK(n.count(what::up) == 0);
  stranger liar{n->listen_port()};
  CHECK_FALSE(liar.shake_hands(us, us, "cookie")); // our own name
  stranger poor{n->listen_port()};
  CHECK_FALSE(
      poor.shake_hands(them, us, "cookie", esp::dist::dflag::published));
  stranger wrong{n->listen_port()};
  CHECK_FALSE(wrong.shake_hands(them, us, "kookie"));
}

TEST_CASE("more than the allowed pending handshakes are refused, and one line "
          "in many is logged") {
  test::log_catcher log;
  auto o = options();
  o.max_pending_handshakes = 3;
  recording_node n{o};
  REQUIRE(n->start());
  std::vector<stranger> waiting;
  for (int i = 0; i < 3; ++i) {
    waiting.emplace_back(n->listen_port());
    REQUIRE(waiting.back().say(name_packet()));
    REQUIRE(waiting.back().hear()); // it was let in
  }
  for (int i = 0; i < 100; ++i) {
    stranger s{n->listen_port()};
    CHECK(s.is_closed_on());
  }
  CHECK(log.wait_for("too many handshakes pending"));
  CHECK(log.count() < 20);
  waiting.clear();
  // The places are free again as soon as their loss was noticed.
  bool is_in = false;
  for (int i = 0; i < 1'000 && !is_in; ++i) {
    stranger s{n->listen_port()};
    is_in = s.shake_hands(them, us, "cookie");
  }
  CHECK(is_in);
}

TEST_CASE("more than the allowed connections are not") {
  test::log_catcher log;
  auto o = options();
  o.max_connections = 2;
  recording_node n{o};
  REQUIRE(n->start());
  std::vector<stranger> in;
  for (int i = 0; i < 2; ++i) {
    in.emplace_back(n->listen_port());
    REQUIRE(
        in.back().shake_hands("n" + std::to_string(i) + "@h", us, "cookie"));
    REQUIRE(n.wait_for([](const auto& e) { return e.kind == what::up; }));
  }
  stranger s{n->listen_port()};
  CHECK_FALSE(s.shake_hands(them, us, "cookie"));
  in.pop_back();
  REQUIRE(n.wait_for(what::down, "n1@h"));
  stranger again{n->listen_port()};
  CHECK(again.shake_hands(them, us, "cookie"));
}

TEST_CASE("a node that connects again replaces its old connection") {
  test::log_catcher log;
  recording_node n{options()};
  REQUIRE(n->start());
  stranger first{n->listen_port()};
  REQUIRE(first.shake_hands(them, us, "cookie"));
  auto up = n.wait_for(what::up, them);
  REQUIRE(up);
  // A liar without the cookie does not break it,
  stranger liar{n->listen_port()};
  CHECK_FALSE(liar.shake_hands(them, us, "kookie"));
  CHECK(up->peer->is_up());
  // the node itself does, and the old one is down before the new one is up.
  stranger second{n->listen_port()};
  REQUIRE(second.shake_hands(them, us, "cookie"));
  auto down = n.wait_for([](const auto& e) { return e.kind != what::signal; });
  REQUIRE(down);
  CHECK(down->kind == what::down);
  CHECK(down->peer == up->peer);
  CHECK(first.is_closed_on());
  REQUIRE(n.wait_for(what::up, them));
  REQUIRE(second.say(greeting(1)));
  CHECK(n.wait_for(what::signal, them));
}

namespace {

// A node that epmd knows, played by the test: it takes our dials.
class scripted_node {
public:
  scripted_node() : io_(std::make_shared<esp::net::io>()) {
    io_->start();
    std::promise<bool> done;
    io_->run([&] {
      registration_ = esp::epmd::registration::start(
          *io_, {{"127.0.0.1", epmd_.port()}, "stranger", door_.port(), true},
          [&](auto r) { done.set_value(r.has_value()); });
    });
    REQUIRE(done.get_future().get());
  }
  ~scripted_node() {
    io_->run([&] { registration_ = nullptr; });
    io_->stop();
  }

  esp::node::peer_options options_for_us() const {
    auto o = options();
    o.use_epmd = true;
    o.epmd_address = "127.0.0.1";
    o.epmd_port = epmd_.port();
    return o;
  }
  stranger accept() { return stranger{door_.accept()}; }
  static esp::dist::handshake acceptor() {
    esp::dist::handshake_options o;
    o.name = them;
    o.creation = 77;
    o.challenge = 1;
    o.cookie = [](std::string_view) { return "cookie"; };
    return esp::dist::handshake::accept(std::move(o));
  }

private:
  test::epmd_daemon epmd_;
  test::door door_;
  esp::net::io_ptr io_;
  std::unique_ptr<esp::epmd::registration> registration_;
};

esp::dist::control say_hello(recording_node& n) {
  return esp::dist::reg_send{n.self(), atom{"anybody"}, atom{"hello"}, {}};
}

// Whether the next that comes is what say_hello() made.
bool hears_hello(stranger& s, recording_node& n) {
  const bytes wanted = frame_of(say_hello(n));
  return s.hear_bytes(wanted.size()) == wanted;
}

} // namespace

TEST_CASE("a dialled node that answers nonsense is unreachable") {
  test::log_catcher log;
  scripted_node other;
  recording_node n{other.options_for_us()};
  REQUIRE(n->start());
  bytes challenge_of_another = text("N");
  esp::base::writer w{challenge_of_another};
  w.u64(esp::dist::our_flags);
  w.u32(1);
  w.u32(77);
  w.u16(5);
  w.text("x@h.i");
  const std::vector<bytes> bad{
      bytes{}, // only closes
      packet(text("snot_allowed")),
      packet(text("swhatever")),
      packet(text("a") + bytes(16)),
      packet(text("snamed:") + raw({0, 3}) + text("x@h") + bytes(4)),
      raw({0xff, 0xff, 's'}),
      packet(text("sok")) + packet(challenge_of_another),
      packet(text("sok")) + packet(text("sok")),
  };
  for (const auto& b : bad) {
    CAPTURE(b.size());
    n->send(atom{them}, say_hello(n));
    auto s = other.accept();
    REQUIRE(s.hear());
    s.say(b);
    if (b.empty()) {
      s.close();
    } else {
      CHECK(s.is_closed_on());
    }
    CHECK(n.wait_for(what::unreachable, them));
  }
  CHECK(n.count(what::up) == 0);
}

TEST_CASE("a dialled node that says nothing is unreachable at net_setuptime") {
  scripted_node other;
  auto o = other.options_for_us();
  o.net_setuptime = 200ms;
  recording_node n{o};
  REQUIRE(n->start());
  n->send(atom{them}, say_hello(n));
  auto s = other.accept();
  CHECK(n.wait_for(what::unreachable, them));
  CHECK(s.is_closed_on());
  // The same if it has told us to wait for a dial that never comes.
  n->send(atom{them}, say_hello(n));
  auto again = other.accept();
  again.say(packet(text("snok")));
  CHECK(again.is_closed_on());
  CHECK(n.wait_for(what::unreachable, them));
}

TEST_CASE("a dial that loses to theirs: theirs takes over what waits") {
  scripted_node other; // the greater name: its dial wins
  recording_node n{other.options_for_us()};
  REQUIRE(n->start());
  n->send(atom{them}, say_hello(n));
  auto losing = other.accept();
  REQUIRE(losing.hear());
  SUBCASE("when they said nok first") {
    losing.say(packet(text("snok")));
    CHECK(losing.is_closed_on());
    stranger winning{n->listen_port()};
    REQUIRE(winning.shake_hands(them, us, "cookie"));
    CHECK(hears_hello(winning, n));
  }
  SUBCASE("when their dial came first") {
    stranger winning{n->listen_port()};
    REQUIRE(winning.shake_hands(them, us, "cookie"));
    CHECK(losing.is_closed_on());
    CHECK(hears_hello(winning, n));
  }
  CHECK(n.wait_for(what::up, them));
  CHECK(n.count(what::unreachable) == 0);
}

TEST_CASE("a liar who says he dials us for them only delays our dial") {
  test::log_catcher log;
  scripted_node other;
  recording_node n{other.options_for_us()};
  REQUIRE(n->start());
  n->send(atom{them}, say_hello(n));
  auto given_up = other.accept();
  REQUIRE(given_up.hear());
  stranger liar{n->listen_port()};
  CHECK_FALSE(liar.shake_hands(them, us, "kookie"));
  auto s = other.accept(); // we dial again
  auto h = scripted_node::acceptor();
  REQUIRE(s.finish(h));
  CHECK(hears_hello(s, n));
  CHECK(n.wait_for(what::up, them));
}

TEST_CASE("a dialled node that thinks us connected already is told to forget "
          "that") {
  scripted_node other;
  recording_node n{other.options_for_us()};
  REQUIRE(n->start());
  n->send(atom{them}, say_hello(n));
  auto s = other.accept();
  auto h = scripted_node::acceptor();
  using state = esp::dist::handshake::state;
  while (h.current() == state::reading) {
    auto some = s.hear();
    REQUIRE(some);
    REQUIRE_FALSE(some->empty());
    h.feed(*some);
  }
  REQUIRE(h.current() == state::asking);
  h.answer(esp::dist::status::alive);
  REQUIRE(s.finish(h));
  CHECK(h.replaces_old());
  CHECK(hears_hello(s, n));
}

TEST_CASE("garbage after the handshake closes that connection alone") {
  test::log_catcher log;
  recording_node n{options()};
  REQUIRE(n->start());
  neighbour good{n};
  const auto self = pid_of(them);
  const auto other = pid_of("third@127.0.0.1");
  const esp::ref ref{atom{them}, 77, 3, {1, 2, 3, 0, 0}};
  const bytes head = raw({131, 68, 0});
  const bytes tuple_of_link = raw({104, 3, 97, 1});
  const std::vector<bytes> bad{
      framed(raw({112, 131, 97, 1})), // pass-through, not negotiated
      framed(raw({1})),
      framed(raw({131})),
      framed(raw({131, 68})),          // shorter than its header
      framed(raw({131, 68, 1, 0, 0})), // cache references, not offered
      framed(raw({131, 69, 0, 0, 0})),
      framed(raw({131, 71, 0})),
      framed(head),                // no control term
      framed(head + raw({97, 1})), // no tuple
      framed(head + raw({104, 0})),
      framed(head + raw({104, 1, 97, 99})),               // unknown operation
      framed(head + tuple_of_link + raw({97, 1, 97, 1})), // no pids
      framed(head + raw({104, 255, 97, 1})),              // cut short
      framed(head + raw({105, 255, 255, 255, 255, 97, 1})),
      framed(head + raw({108, 127, 255, 255, 255})),
      framed(raw({131, 70, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1})),
      frame_of(esp::dist::link{other, self}), // in the name of a third node
      frame_of(esp::dist::exit{other, self, atom{"kill"}, {}}),
      frame_of(esp::dist::monitor{other, self, ref}),
  };
  for (const auto& b : bad) {
    CAPTURE(b.size());
    stranger s{n->listen_port()};
    REQUIRE(s.shake_hands(them, us, "cookie"));
    REQUIRE(n.wait_for(what::up, them));
    REQUIRE(s.say(greeting(1) + b + greeting(2)));
    CHECK(s.is_closed_on());
    // What came before it counts, what came behind it does not.
    auto e = n.wait_for([](const auto& one) { return one.node == atom{them}; });
    REQUIRE(e);
    CHECK(e->kind == what::signal);
    e = n.wait_for([](const auto& one) { return one.node == atom{them}; });
    REQUIRE(e);
    CHECK(e->kind == what::down);
    good.check();
  }
  CHECK(n.count(what::signal) == 0);
  CHECK(log.count() > 0);
}

TEST_CASE("frames behind the handshake in the same packet are not lost") {
  recording_node n{options()};
  REQUIRE(n->start());
  stranger s{n->listen_port()};
  esp::dist::handshake_options o;
  o.name = them;
  o.creation = 77;
  o.challenge = 1;
  o.cookie = [](std::string_view) { return "cookie"; };
  auto h = esp::dist::handshake::initiate(std::move(o), us);
  using state = esp::dist::handshake::state;
  bytes last;
  while (h.current() == state::reading && last.empty()) {
    s.say(h.take_output());
    auto some = s.hear();
    REQUIRE(some);
    h.feed(*some);
    auto out = h.take_output();
    if (!out.empty()) {
      last = out + greeting(1) + greeting(2); // the reply and two signals
    }
  }
  REQUIRE(s.say(last));
  CHECK(n.wait_for(what::up, them));
  CHECK(n.wait_for(what::signal, them));
  CHECK(n.wait_for(what::signal, them));
}

TEST_CASE("a signal over the cap is dropped and counted, whole or in "
          "fragments, and the connection stays") {
  test::log_catcher log;
  auto o = options();
  o.max_signal = 100'000;
  recording_node n{o};
  REQUIRE(n->start());
  stranger s{n->listen_port()};
  REQUIRE(s.shake_hands(them, us, "cookie"));
  auto up = n.wait_for(what::up, them);
  REQUIRE(up);
  const esp::dist::control large =
      esp::dist::reg_send{pid_of(them),
                          atom{"anybody"},
                          term::binary(std::string(300'000, 'x')),
                          {}};
  // In fragments, as OTP sends it; then the same as one frame.
  REQUIRE(s.say(frame_of(large) + greeting(1)));
  auto e = n.wait_for(what::signal, them);
  REQUIRE(e);
  CHECK(std::get<esp::dist::reg_send>(*e->signal).message == term::integer(1));
  CHECK(up->peer->count().dropped_too_large == 1);
  const bytes whole = raw({131, 68, 0})
                      + esp::dist::encode_control(large, esp::dist::our_flags);
  REQUIRE(s.say(framed(whole) + greeting(2)));
  e = n.wait_for(what::signal, them);
  REQUIRE(e);
  CHECK(std::get<esp::dist::reg_send>(*e->signal).message == term::integer(2));
  CHECK(up->peer->count().dropped_too_large == 2);
  CHECK(up->peer->is_up());
}

TEST_CASE("too many fragment sequences at once cost themselves, not the "
          "connection") {
  test::log_catcher log;
  auto o = options();
  o.max_fragment_sequences = 4;
  recording_node n{o};
  REQUIRE(n->start());
  stranger s{n->listen_port()};
  REQUIRE(s.shake_hands(them, us, "cookie"));
  auto up = n.wait_for(what::up, them);
  REQUIRE(up);
  for (std::uint64_t i = 1; i <= 10; ++i) {
    bytes b;
    esp::dist::append_fragment_header(b, true, i, 2, 3);
    REQUIRE(s.say(b + raw({104, 3, 97})));
  }
  REQUIRE(s.say(greeting(1)));
  CHECK(n.wait_for(what::signal, them));
  CHECK(up->peer->count().dropped_too_large == 6);
  CHECK(up->peer->is_up());
}

TEST_CASE("a tick is answered with a tick, and an answer with silence") {
  auto o = options();
  o.net_ticktime = 400ms * 4;
  recording_node n{o};
  REQUIRE(n->start());
  stranger s{n->listen_port()};
  REQUIRE(s.shake_hands(them, us, "cookie"));
  REQUIRE(n.wait_for(what::up, them));
  const bytes tick(4);
  REQUIRE(s.say(tick));
  auto heard = s.hear_bytes(4);
  CHECK(heard == tick);
  // Two of us must not tick each other for ever.
  int exchanges = 0;
  const auto begin = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - begin < 1s) {
    auto some = s.hear(1s);
    REQUIRE(some);
    REQUIRE_FALSE(some->empty());
    ++exchanges;
    REQUIRE(s.say(tick));
  }
  CHECK(exchanges < 20);
}

TEST_CASE("a peer that is silent after the handshake is given up") {
  test::log_catcher log;
  auto o = options();
  o.net_ticktime = 200ms;
  recording_node n{o};
  REQUIRE(n->start());
  stranger s{n->listen_port()};
  REQUIRE(s.shake_hands(them, us, "cookie"));
  auto down = n.wait_for(what::down, them);
  REQUIRE(down);
  CHECK(down->why == "net tick timeout");
  CHECK(s.is_closed_on());
}
