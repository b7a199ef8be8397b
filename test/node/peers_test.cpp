// Our connections, and real Erlang nodes at the other end of them
// (protocol.md, sections 1, 4 and 18).

#include "node/peers.hpp"

#include "support/erlang.hpp"
#include "support/log_catcher.hpp"
#include "support/recording_node.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using esp::atom;
using esp::term;
using test::erlang_node;
using test::recording_node;
using test::what;

namespace {

constexpr auto erl = "erl@127.0.0.1";
constexpr auto us = "esp@127.0.0.1";

// One for all cases: starting it costs time, and it is what it is in real
// life, too.
test::epmd_daemon& epmd() {
  static test::epmd_daemon e;
  return e;
}

esp::node::peer_options options(const std::string& name = us) {
  esp::node::peer_options o;
  o.node_name = name;
  o.cookie = "cookie";
  o.epmd_address = "127.0.0.1";
  o.epmd_port = epmd().port();
  return o;
}

void must_start(recording_node& n) {
  auto started = n->start();
  REQUIRE_MESSAGE(started.has_value(),
                  (started ? std::string{} : started.error().what));
}

term blob(std::size_t size) {
  std::string s(size, 'x');
  for (std::size_t i = 0; i < size; i += 97) {
    s[i] = static_cast<char>('a' + i / 97 % 26);
  }
  return term::binary(s);
}

} // namespace

TEST_CASE("a visible and a hidden Erlang node take our dial and answer") {
  for (bool is_hidden : {false, true}) {
    std::vector<std::string> more;
    if (is_hidden) {
      more = {"-hidden"};
    }
    erlang_node peer{epmd(), erl, "cookie", more};
    recording_node n{options()};
    must_start(n);
    CHECK(n->creation() > 0);
    CHECK(n->find(atom{erl}) == nullptr);
    CHECK(n.eval(erl, "1 + 2.") == "{ok,3}");
    auto up = n.wait_for(what::up, erl);
    REQUIRE(up);
    CHECK(up->peer->is_up());
    CHECK(up->peer->creation() != 0);
    CHECK(n->find(atom{erl}) == up->peer);
    CHECK(n->connected() == std::vector{up->peer});
    CHECK(n.eval(erl, "nodes(hidden).") == "{ok,['esp@127.0.0.1']}");
  }
}

TEST_CASE("a node that is not hidden is in nodes()") {
  erlang_node peer{epmd(), erl};
  auto o = options();
  o.hidden = false;
  recording_node n{o};
  must_start(n);
  CHECK(n.eval(erl, "nodes().") == "{ok,['esp@127.0.0.1']}");
}

TEST_CASE("an Erlang node finds us through epmd, dials and pings") {
  erlang_node peer{epmd(), erl};
  recording_node driver{options("driver@127.0.0.1")};
  must_start(driver);
  recording_node n{options()};
  must_start(n);
  CHECK(driver.eval(erl, "net_adm:ping('esp@127.0.0.1').") == "{ok,pong}");
  CHECK(n.wait_for(what::up, erl));
  CHECK(driver.eval(erl, "net_adm:ping('esp@127.0.0.1').") == "{ok,pong}");
}

TEST_CASE("a node that has no name yet gets one from us") {
  recording_node n{options("esp@localhost")};
  must_start(n);
  test::os_process nameless{
      {"erl", "-noinput", "-hidden", "-sname", "undefined", "-setcookie",
       "cookie", "-kernel", "inet_dist_use_interface", "{127,0,0,1}", "-eval",
       "io:format(\"~p ~p~n\", [net_kernel:connect_node('esp@localhost'),"
       " node() =/= nonode@nohost])."},
      {{"ERL_EPMD_PORT", std::to_string(epmd().port())},
       {"ERL_EPMD_ADDRESS", "127.0.0.1"}}};
  nameless.wait_for_output("true true");
  CHECK(n.wait_for([](const auto& e) { return e.kind == what::up; }));
}

TEST_CASE("a message of any size comes back as it went, in fragments or not") {
  erlang_node peer{epmd(), erl};
  recording_node n{options()};
  must_start(n);
  std::vector<std::size_t> sizes{0, 1, 16'383, 16'384, 5'000'000, 20'000'000};
  for (std::size_t around : {65'536UL, 131'072UL}) {
    for (std::size_t size = around - 150; size <= around + 150; ++size) {
      sizes.push_back(size);
    }
  }
  std::vector<std::int64_t> tags;
  for (auto size : sizes) {
    tags.push_back(n.tell(erl, "echo", blob(size)));
  }
  n->flush();
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    auto back = n.answer_to(tags[i]);
    REQUIRE(back);
    CHECK(*back == blob(sizes[i]));
  }
}

TEST_CASE("what one thread sends comes in the order it was sent") {
  erlang_node peer{epmd(), erl};
  auto o = options();
  o.max_waiting_bytes = 100 << 20; // nothing is to be dropped here
  recording_node n{o};
  must_start(n);
  // Small and fragmented ones mixed, from before the dial to after it.
  constexpr int many = 3'000;
  const auto collected = n.tell(
      erl, "eval",
      term::string("register(collector, self()), L = [receive {N, _} -> N end "
                   "|| _ <- lists:seq(1, 3000)], L =:= lists:seq(1, 3000)."));
  n->flush();
  CHECK(n.eval(erl, "(fun W() -> case whereis(collector) of undefined -> "
                    "erlang:yield(), W(); _ -> ok end end)().")
        == "{ok,ok}");
  n->find(atom{erl})->close("dial anew");
  REQUIRE(n.wait_for(what::down, erl));
  for (int i = 1; i <= many; ++i) {
    n->send(atom{erl}, esp::dist::reg_send{
                           n.self(),
                           atom{"collector"},
                           term::tuple({term::integer(i),
                                        blob(i % 500 == 0 ? 200'000 : 10)}),
                           {}});
    if (i % 7 == 0) {
      n->flush();
    }
  }
  n->flush();
  auto r = n.answer_to(collected);
  REQUIRE(r);
  CHECK(r->to_string() == "{ok,true}");
}

TEST_CASE("a wrong cookie is refused in both roles, and logged") {
  test::log_catcher log;
  erlang_node peer{epmd(), erl, "another"};
  auto o = options("driver@127.0.0.1");
  o.cookies = {{erl, "another"}};
  recording_node driver{o};
  must_start(driver);
  recording_node n{options()};
  must_start(n);
  n->connect(atom{erl});
  auto e = n.wait_for(what::unreachable, erl);
  REQUIRE(e);
  CHECK(n.count(what::up) == 0);
  // The driver has the right cookie for this peer, beside its default one.
  CHECK(driver.eval(erl, "net_kernel:connect_node('esp@127.0.0.1').")
        == "{ok,false}");
  CHECK(log.wait_for("has another cookie"));
  CHECK(n.count(what::up) == 0);
}

TEST_CASE("a node that epmd does not know is unreachable, and what waited for "
          "it is gone") {
  recording_node n{options()};
  must_start(n);
  n.tell("nobody@127.0.0.1", "echo", term{});
  CHECK(n.wait_for(what::unreachable, "nobody@127.0.0.1"));
  n->connect(atom{"no_host"});
  CHECK(n.wait_for(what::unreachable, "no_host"));
}

TEST_CASE("a second node of our name is told that the name is taken") {
  recording_node first{options()};
  must_start(first);
  recording_node second{options()};
  auto started = second->start();
  REQUIRE_FALSE(started);
  CHECK(started.error().code == esp::errc::already);
  CHECK(started.error().what.find(us) != std::string::npos);
}

TEST_CASE("without an epmd the node does not start, unless it needs none") {
  auto o = options();
  o.epmd_port = test::free_port();
  recording_node n{o};
  auto started = n->start();
  REQUIRE_FALSE(started);
  CHECK(started.error().code == esp::errc::io);
  o.use_epmd = false;
  recording_node alone{o};
  must_start(alone);
  CHECK(alone->creation() > 3);
  CHECK(alone->listen_port() != 0);
}

TEST_CASE("when epmd comes back we are registered again, creation unchanged") {
  test::log_catcher log;
  test::epmd_daemon own;
  auto o = options();
  o.epmd_port = own.port();
  recording_node n{o};
  must_start(n);
  const auto creation = n->creation();
  own.kill();
  own.start();
  REQUIRE(log.wait_for("registered again"));
  CHECK(n->creation() == creation);
  erlang_node peer{own, erl};
  recording_node driver{[&] {
    auto d = options("driver@127.0.0.1");
    d.epmd_port = own.port();
    return d;
  }()};
  must_start(driver);
  CHECK(driver.eval(erl, "net_adm:ping('esp@127.0.0.1').") == "{ok,pong}");
}

TEST_CASE("dials that cross end in one connection that works") {
  erlang_node peer{epmd(), erl};
  // One name is greater than the other node's, one smaller.
  for (const std::string name : {"aaa@127.0.0.1", "zzz@127.0.0.1"}) {
    recording_node driver{options("driver@127.0.0.1")};
    must_start(driver);
    recording_node n{options(name)};
    must_start(n);
    REQUIRE(driver.eval(erl, "ok.") == "{ok,ok}");
    for (int i = 0; i < 100; ++i) {
      const auto theirs =
          driver.tell(erl, "eval",
                      term::string("net_kernel:connect_node('" + name + "')."));
      const auto ours = n.tell(erl, "echo", term::integer(i));
      driver->flush();
      n->flush();
      auto connected = driver.answer_to(theirs);
      REQUIRE(connected);
      CHECK(connected->to_string() == "{ok,true}");
      auto back = n.answer_to(ours);
      REQUIRE(back);
      CHECK(*back == term::integer(i));
      REQUIRE(n->connected().size() == 1);
      REQUIRE(n.wait_for(what::up, erl));
      n->connected()[0]->close("next try");
      REQUIRE(n.wait_for(what::down, erl));
    }
    CHECK(n.count(what::up) == 0);
    CHECK(n.count(what::unreachable) == 0);
  }
}

TEST_CASE("the death of the other node is reported once, and a new one of its "
          "name is another") {
  recording_node n{options()};
  must_start(n);
  std::uint32_t creation = 0;
  for (int i = 0; i < 2; ++i) {
    erlang_node peer{epmd(), erl};
    CHECK(n.eval(erl, "ok.") == "{ok,ok}");
    auto up = n.wait_for(what::up, erl);
    REQUIRE(up);
    CHECK(up->peer->creation() != creation);
    creation = up->peer->creation();
    peer.kill();
    auto down = n.wait_for(what::down, erl);
    REQUIRE(down);
    CHECK(down->peer == up->peer);
    CHECK_FALSE(up->peer->is_up());
    CHECK(n->find(atom{erl}) == nullptr);
    up->peer->send(esp::dist::link{n.self(), n.self()}); // goes nowhere
    up->peer->flush();
  }
  CHECK(n.count(what::down) == 0);
}

TEST_CASE("an idle connection is kept alive, a silent peer is given up") {
  erlang_node peer{epmd(), erl, "cookie", {"-kernel", "net_ticktime", "4"}};
  auto o = options();
  o.net_ticktime = 4s;
  recording_node n{o};
  must_start(n);
  REQUIRE(n.eval(erl, "ok.") == "{ok,ok}");
  // Either side would have given up the other after 5 s.
  CHECK_FALSE(n.wait_for(what::down, erl, 8s));
  CHECK(n.eval(erl, "nodes(hidden).") == "{ok,['esp@127.0.0.1']}");
  peer.signal(SIGSTOP);
  auto down = n.wait_for(what::down, erl, 20s);
  peer.signal(SIGCONT);
  REQUIRE(down);
  CHECK(down->why == "net tick timeout");
}

TEST_CASE("our ticks alone keep a peer whose ticktime is much shorter") {
  erlang_node peer{epmd(), erl, "cookie", {"-kernel", "net_ticktime", "4"}};
  recording_node n{options()}; // 60 s: only answers to its ticks come in time
  must_start(n);
  REQUIRE(n.eval(erl, "ok.") == "{ok,ok}");
  CHECK_FALSE(n.wait_for(what::down, erl, 8s));
  CHECK(n.eval(erl, "ok.") == "{ok,ok}");
}

TEST_CASE("a peer that does not read: senders are told, others go on, nothing "
          "is lost") {
  erlang_node slow{epmd(), erl};
  erlang_node other{epmd(), "other@127.0.0.1"};
  recording_node n{options()};
  must_start(n);
  REQUIRE(n.eval(erl, "ok.") == "{ok,ok}");
  auto p = n->find(atom{erl});
  REQUIRE(p);
  bool has_drained_at_once = false;
  p->on_drain([&] { has_drained_at_once = true; });
  CHECK(has_drained_at_once);
  slow.signal(SIGSTOP);
  std::vector<std::int64_t> tags;
  while (!p->is_congested() && tags.size() < 1'000) {
    tags.push_back(n.tell(erl, "echo", blob(100'000)));
    n->flush();
  }
  REQUIRE(p->is_congested());
  std::mutex mutex;
  std::condition_variable changed;
  bool has_drained = false;
  p->on_drain([&] {
    std::lock_guard lock{mutex};
    has_drained = true;
    changed.notify_all();
  });
  CHECK(n.eval("other@127.0.0.1", "ok.") == "{ok,ok}");
  CHECK(p->is_congested());
  CHECK_FALSE(has_drained);
  slow.signal(SIGCONT);
  std::unique_lock lock{mutex};
  REQUIRE(changed.wait_for(lock, test::patience, [&] { return has_drained; }));
  lock.unlock();
  for (auto tag : tags) {
    CHECK(n.answer_to(tag));
  }
}

TEST_CASE("a peer that never reads is given up at the cap") {
  test::log_catcher log;
  erlang_node slow{epmd(), erl};
  auto o = options();
  o.max_output = 4 << 20;
  recording_node n{o};
  must_start(n);
  REQUIRE(n.eval(erl, "ok.") == "{ok,ok}");
  auto p = n->find(atom{erl});
  slow.signal(SIGSTOP);
  for (int i = 0; i < 1'000 && p->is_up(); ++i) {
    p->send(esp::dist::reg_send{n.self(), atom{"oracle"}, blob(100'000), {}});
  }
  CHECK(n.wait_for(what::down, erl));
  CHECK(log.wait_for("does not read"));
}

TEST_CASE("what waits for a dial is bounded") {
  test::log_catcher log;
  auto o = options();
  o.max_waiting_signals = 10;
  recording_node n{o};
  must_start(n);
  for (int i = 0; i < 1'000; ++i) {
    n.tell("nobody@127.0.0.1", "echo", term{});
  }
  CHECK(log.wait_for("too many wait for the connection to nobody@127.0.0.1"));
  CHECK(n.wait_for(what::unreachable, "nobody@127.0.0.1"));
}

TEST_CASE("stop reports every connection down, and nothing afterwards") {
  erlang_node peer{epmd(), erl};
  recording_node n{options()};
  must_start(n);
  REQUIRE(n.eval(erl, "ok.") == "{ok,ok}");
  auto p = n->find(atom{erl});
  n->stop();
  CHECK(n.count(what::down) == 1);
  n->send(atom{erl}, esp::dist::link{n.self(), n.self()});
  p->close("twice");
  n->flush();
  n->stop();
  CHECK(n.count(what::down) == 1);
}

TEST_CASE("many threads send at once, each in its own order") {
  erlang_node peer{epmd(), erl};
  recording_node n{options()};
  must_start(n);
  REQUIRE(n.eval(erl, "ok.") == "{ok,ok}");
  constexpr int threads = 4;
  constexpr int each = 2'000;
  const auto done = n.tell(
      erl, "eval",
      term::string(
          "register(sorter, self()), From ! {0, ready},"
          "[L1, L2, L3, L4] = [[] || _ <- lists:seq(1, 4)],"
          "(fun F(M, 8000) -> [lists:reverse(V) =:= lists:seq(1, 2000) || "
          "{_, V} <- lists:sort(maps:to_list(M))];"
          " F(M, C) -> receive {T, N, _} -> F(maps:update_with(T, fun(L) -> "
          "[N | L] end, [N], M), C + 1) end end)(#{}, 0)."));
  n->flush();
  REQUIRE(n.answer_to(0));
  std::vector<std::thread> all;
  for (int t = 0; t < threads; ++t) {
    all.emplace_back([&, t] {
      for (int i = 1; i <= each; ++i) {
        n->send(atom{erl}, esp::dist::reg_send{
                               n.self(),
                               atom{"sorter"},
                               term::tuple({term::integer(t), term::integer(i),
                                            blob(i % 100 == 0 ? 70'000 : 20)}),
                               {}});
        if (i % 13 == 0) {
          n->flush();
        }
      }
      n->flush();
    });
  }
  for (auto& t : all) {
    t.join();
  }
  auto r = n.answer_to(done);
  REQUIRE(r);
  CHECK(r->to_string() == "{ok,[true,true,true,true]}");
}
