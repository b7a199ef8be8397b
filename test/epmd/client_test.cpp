// The epmd client against Debian's epmd, and against one that misbehaves.

#include "epmd/client.hpp"

#include "net/io.hpp"
#include "support/erlang.hpp"
#include "support/log_catcher.hpp"
#include "support/raw_socket.hpp"

#include <doctest/doctest.h>

#include <future>
#include <memory>
#include <string>
#include <vector>

using namespace esp;

namespace {

// An I/O thread, and calls to it that wait for their answer.
class client {
public:
  client() { io_.start(); }
  ~client() {
    io_.run([this] {
      registration_ = nullptr;
      lookup_ = nullptr;
    });
    io_.stop();
  }

  result<std::uint32_t> register_as(const std::string& name,
                                    std::uint16_t port_of_epmd,
                                    bool is_hidden = true) {
    std::promise<result<std::uint32_t>> done;
    io_.run([&] {
      registration_ = epmd::registration::start(
          io_, {{"127.0.0.1", port_of_epmd}, name, 4'711, is_hidden},
          [&](auto r) { done.set_value(std::move(r)); });
    });
    return done.get_future().get();
  }
  void give_up_name() {
    io_.run([this] { registration_ = nullptr; });
  }
  result<epmd::node_entry> look_up(const std::string& name,
                                   std::uint16_t port_of_epmd) {
    std::promise<result<epmd::node_entry>> done;
    io_.run([&] {
      lookup_ =
          epmd::lookup::start(io_, {{"127.0.0.1", port_of_epmd}}, name,
                              [&](auto r) { done.set_value(std::move(r)); });
    });
    return done.get_future().get();
  }

private:
  net::io io_;
  std::unique_ptr<epmd::registration> registration_;
  std::unique_ptr<epmd::lookup> lookup_;
};

std::vector<std::byte> raw(std::initializer_list<int> all) {
  std::vector<std::byte> b;
  for (int i : all) {
    b.push_back(static_cast<std::byte>(i));
  }
  return b;
}

} // namespace

TEST_CASE("a registered name is found, with its port and type") {
  test::epmd_daemon daemon;
  client a;
  client b;
  auto creation = a.register_as("a", daemon.port());
  REQUIRE(creation);
  CHECK(*creation > 0);
  REQUIRE(b.register_as("b", daemon.port(), false));
  auto found = b.look_up("a", daemon.port());
  REQUIRE(found);
  CHECK(found->name == "a");
  CHECK(found->port == 4'711);
  CHECK(found->is_hidden);
  CHECK_FALSE(a.look_up("b", daemon.port())->is_hidden);
}

TEST_CASE("a name that is taken, unknown, or illegal is said so") {
  test::epmd_daemon daemon;
  client a;
  client b;
  REQUIRE(a.register_as("a", daemon.port()));
  CHECK(b.register_as("a", daemon.port()).error().code == errc::already);
  CHECK(b.look_up("nobody", daemon.port()).error().code == errc::not_found);
  CHECK(b.look_up("", daemon.port()).error().code == errc::badarg);
  CHECK(b.register_as(std::string(300, 'x'), daemon.port()).error().code
        == errc::badarg);
}

TEST_CASE("a name given up can be taken, with another creation") {
  test::epmd_daemon daemon;
  client a;
  client b;
  auto first = a.register_as("a", daemon.port());
  REQUIRE(first);
  a.give_up_name();
  // epmd notices the end of the connection in its own time, and is asked again.
  auto second = b.register_as("a", daemon.port());
  REQUIRE(second);
  CHECK(*second != *first);
}

TEST_CASE("without an epmd both say that it cannot be reached") {
  client a;
  const auto port = test::free_port();
  auto r = a.register_as("a", port);
  REQUIRE_FALSE(r);
  CHECK(r.error().code == errc::io);
  CHECK(r.error().what.find(std::to_string(port)) != std::string::npos);
  CHECK(a.look_up("a", port).error().code == errc::io);
}

TEST_CASE("an epmd that dies and comes back knows us again, each time") {
  test::log_catcher log;
  test::epmd_daemon daemon;
  client a;
  client b;
  REQUIRE(a.register_as("a", daemon.port()));
  for (std::size_t i = 1; i <= 2; ++i) {
    daemon.kill();
    daemon.start();
    REQUIRE(log.wait_for("registered again", i));
    CHECK(b.look_up("a", daemon.port()));
  }
}

TEST_CASE("an epmd that answers in pieces is understood, one that answers "
          "nonsense or hangs up is an error") {
  test::door daemon; // the test itself is epmd
  const auto ask = [&](const std::vector<std::byte>& answer, bool in_pieces) {
    client a;
    auto r = std::async(std::launch::async,
                        [&] { return a.register_as("a", daemon.port()); });
    auto s = daemon.accept();
    CHECK(s.hear());
    for (std::size_t i = 0; in_pieces && i < answer.size(); ++i) {
      s.say(std::span{answer}.subspan(i, 1));
    }
    if (!in_pieces) {
      s.say(answer);
      s.close();
    }
    return r.get();
  };
  CHECK(ask(raw({118, 0, 0, 1, 2, 3}), true).value_or(0) == 0x10203);
  CHECK(ask(raw({121, 0, 0, 9}), true).value_or(0) == 9);
  CHECK_FALSE(ask(raw({}), false));
  CHECK_FALSE(ask(raw({118, 0, 0}), false));
  CHECK_FALSE(ask(raw({42, 0, 0, 1, 2, 3}), false));
}

TEST_CASE("a look-up survives any truncation and an endless answer") {
  test::door daemon; // the test itself is epmd
  const auto whole =
      raw({119, 0, 0x12, 0x67, 72, 0, 0, 6, 0, 6, 0, 1, 'a', 0, 0});
  for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
    client a;
    auto r = std::async(std::launch::async,
                        [&] { return a.look_up("a", daemon.port()); });
    auto s = daemon.accept();
    CHECK(s.hear());
    s.say(std::span{whole}.first(cut));
    s.close();
    CHECK(r.get().has_value() == (cut == whole.size()));
  }
  client a;
  auto r = std::async(std::launch::async,
                      [&] { return a.look_up("a", daemon.port()); });
  auto s = daemon.accept();
  CHECK(s.hear());
  std::vector<std::byte> endless(1 << 20, std::byte{119});
  s.say(endless);
  CHECK_FALSE(r.get());
}

TEST_CASE("the environment says where epmd is, options say it louder") {
  ::setenv("ERL_EPMD_ADDRESS", "127.0.0.2,127.0.0.3", 1);
  ::setenv("ERL_EPMD_PORT", "4999", 1);
  CHECK(epmd::default_endpoint().address == "127.0.0.2");
  CHECK(epmd::default_endpoint().port == 4'999);
  CHECK(epmd::default_endpoint("127.0.0.9", 5).address == "127.0.0.9");
  CHECK(epmd::default_endpoint("127.0.0.9", 5).port == 5);
  ::setenv("ERL_EPMD_PORT", "99999", 1);
  ::setenv("ERL_EPMD_ADDRESS", "nonsense", 1);
  CHECK(epmd::default_endpoint().address == "127.0.0.1");
  CHECK(epmd::default_endpoint().port == 4'369);
  ::unsetenv("ERL_EPMD_ADDRESS");
  ::unsetenv("ERL_EPMD_PORT");
  CHECK(epmd::default_endpoint().port == 4'369);
}
