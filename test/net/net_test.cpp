// The I/O thread, its timers, listeners and streams.

#include "net/address.hpp"
#include "net/io.hpp"
#include "net/listener.hpp"
#include "net/stream.hpp"
#include "net/timer.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

using namespace esp;
using namespace std::chrono_literals;

namespace {

struct running {
  running() { io.start(); }
  ~running() { io.stop(); }
  net::io io;
};

// Reads until the end; what it read is `all`, then.
class reader final : public net::stream::user {
public:
  std::span<std::byte> read_room() override { return room_; }
  void on_read(std::size_t count) override {
    for (std::size_t i = 0; i < count; ++i) {
      all_ += static_cast<char>(room_[i]);
    }
  }
  void on_end(const std::string&) override { all.set_value(all_); }

  std::promise<std::string> all;

private:
  std::array<std::byte, 7> room_{};
  std::string all_;
};

std::span<const std::byte> as_bytes(const std::string& s) {
  return std::as_bytes(std::span{s});
}

} // namespace

TEST_CASE("what is posted runs in order on the I/O thread, and not after "
          "stop()") {
  net::io io;
  std::vector<int> seen;
  bool is_there = true;
  for (int i = 0; i < 100; ++i) {
    CHECK(io.post([&, i] {
      seen.push_back(i);
      is_there = is_there && io.is_io_thread();
    }));
  }
  CHECK_FALSE(io.is_io_thread());
  io.start();
  io.stop(); // lets what was posted run
  CHECK(seen.size() == 100);
  CHECK(std::is_sorted(seen.begin(), seen.end()));
  CHECK(is_there);
  CHECK_FALSE(io.post([&] { seen.clear(); }));
  CHECK_FALSE(io.run([&] { seen.clear(); }));
  io.stop();
  CHECK(seen.size() == 100);
}

TEST_CASE("posting races with stopping: each post runs or says it did not") {
  for (int round = 0; round < 50; ++round) {
    net::io io;
    io.start();
    std::atomic<int> ran = 0;
    int taken = 0;
    std::thread other([&] {
      while (io.post([&] { ++ran; })) {
        ++taken;
      }
    });
    io.stop();
    other.join();
    CHECK(ran == taken);
  }
}

TEST_CASE("a timer runs once; set anew, cancelled or destroyed it does not") {
  running r;
  std::promise<void> done;
  std::atomic<int> wrong = 0;
  std::atomic<int> either = 0;
  std::unique_ptr<net::timer> a, b, c, d, e;
  r.io.run([&] {
    a = std::make_unique<net::timer>(r.io);
    b = std::make_unique<net::timer>(r.io);
    c = std::make_unique<net::timer>(r.io);
    // All of these have expired already when anything else happens.
    a->after(0ms, [&] { ++wrong; });
    b->after(0ms, [&] { ++wrong; });
    c->after(0ms, [&] { ++wrong; });
    a->cancel();
    b->after(1ms, [&] { done.set_value(); });
    c = nullptr;
    // Both are due in the same round: whichever comes first, the other has
    // expired already when it is cancelled.
    d = std::make_unique<net::timer>(r.io);
    e = std::make_unique<net::timer>(r.io);
    d->after(0ms, [&] {
      ++either;
      e->cancel();
    });
    e->after(0ms, [&] {
      ++either;
      d->cancel();
    });
  });
  CHECK(done.get_future().wait_for(60s) == std::future_status::ready);
  CHECK(wrong == 0);
  CHECK(either == 1);
  r.io.run([&] {
    for (auto* t : {&a, &b, &d, &e}) {
      *t = nullptr;
    }
  });
}

TEST_CASE("a listener takes connections on all its addresses at one port, and "
          "bytes come as they were sent") {
  running r;
  std::unique_ptr<net::listener> l;
  std::vector<std::shared_ptr<reader>> readers;
  std::vector<net::stream_ptr> accepted;
  std::promise<void> both;
  r.io.run([&] {
    auto opened = net::listener::open(
        r.io, {.addresses = {"127.0.0.1", "127.0.0.2", "192.0.2.1"}},
        [&](net::stream_ptr s, const std::string& from) {
          CHECK(net::is_own_address(from));
          readers.push_back(std::make_shared<reader>());
          accepted.push_back(s);
          s->read_for(readers.back());
          if (readers.size() == 2) {
            both.set_value();
          }
        });
    REQUIRE(opened);
    l = std::move(*opened);
  });
  std::vector<net::stream_ptr> dialled;
  for (const char* address : {"127.0.0.1", "127.0.0.2"}) {
    std::promise<bool> connected;
    r.io.run([&] {
      dialled.push_back(net::stream::make(r.io));
      // The first one refuses: nobody listens on 127.0.0.3.
      dialled.back()->connect(
          {{"127.0.0.3", l->port()}, {address, l->port()}},
          [&](auto c) { connected.set_value(c.has_value()); });
    });
    REQUIRE(connected.get_future().get());
  }
  REQUIRE(both.get_future().wait_for(60s) == std::future_status::ready);
  r.io.run([&] {
    for (auto& d : dialled) {
      CHECK(d->write_now(as_bytes("hello, ")));
      CHECK(d->write_now(as_bytes("world")));
      d->close();
    }
  });
  for (auto& one : readers) {
    CHECK(one->all.get_future().get() == "hello, world");
  }
  r.io.run([&] {
    l->close();
    for (auto& s : accepted) {
      s->close();
    }
  });
}

TEST_CASE("a port that is taken is an error, unless any will do") {
  running r;
  r.io.run([&] {
    const auto ignore = [](auto, const auto&) {};
    auto first =
        net::listener::open(r.io, {.addresses = {"127.0.0.1"}}, ignore);
    REQUIRE(first);
    auto second = net::listener::open(
        r.io, {.addresses = {"127.0.0.1"}, .port = (*first)->port()}, ignore);
    REQUIRE_FALSE(second);
    CHECK(second.error().code == errc::already);
    CHECK_FALSE(
        net::listener::open(r.io, {.addresses = {"192.0.2.1"}}, ignore));
    CHECK_FALSE(net::listener::open(r.io, {.addresses = {}}, ignore));
  });
}

TEST_CASE("connecting to nobody is an error that names the address") {
  running r;
  std::promise<std::string> why;
  net::stream_ptr s;
  r.io.run([&] {
    s = net::stream::make(r.io);
    s->connect({{"127.0.0.1", 1}}, [&](auto c) {
      why.set_value(c ? "connected" : c.error().what);
    });
  });
  CHECK(why.get_future().get().starts_with("127.0.0.1:1: "));
  r.io.run([&] { s->close(); });
}

TEST_CASE("own addresses are told from others, names from addresses") {
  CHECK(net::is_own_address("127.0.0.1"));
  CHECK(net::is_own_address("127.1.2.3"));
  CHECK(net::is_own_address("::1"));
  CHECK(net::is_own_address("::ffff:127.0.0.1"));
  CHECK_FALSE(net::is_own_address("192.0.2.1"));
  CHECK_FALSE(net::is_own_address("nonsense"));
  CHECK(net::is_address("10.0.0.1"));
  CHECK_FALSE(net::is_address("localhost"));
  CHECK(net::resolve_now("localhost").value_or({})
        == std::vector<std::string>{"127.0.0.1"});
  CHECK(net::resolve_now("10.0.0.1").value_or({})
        == std::vector<std::string>{"10.0.0.1"});
  CHECK_FALSE(net::resolve_now("no-such-host.invalid"));
}

TEST_CASE("resolving on the I/O thread gives the same") {
  running r;
  std::promise<std::vector<std::string>> found;
  r.io.run([&] {
    net::resolve(r.io, "localhost",
                 [&](auto all) { found.set_value(all.value_or({})); });
  });
  CHECK(found.get_future().get() == std::vector<std::string>{"127.0.0.1"});
}
