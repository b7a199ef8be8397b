// Restarts of a body among threads that come in an order of the test's making.

#include "coop/coop_node.hpp"
#include "coop/kill_switch.hpp"
#include "support/live_node.hpp"
#include "support/lone_node.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace esp;

struct world : test::lone_node {
  world() : lone_node(std::string(ESP_TEST_PLUGIN_DIR) + "/seeded.so", 2) {}
};

term request(const pid& to, const term& what) {
  return test::request(to, what, test::patience);
}

// Two nodes in a row that may be restarted, their parent this process: {ok,
// Head} or an error.
term start(atom registered) {
  const auto task = [](const char* name) {
    return test::native(name, "seeded", "sleep_on", term());
  };
  return test::start_coop(
      {task("a"), task("b")}, {term::tuple({atom("a"), atom("b")})},
      test::patience,
      {{atom("window"), term::integer(10)},
       {atom("name"), registered},
       {atom("max_queue"), term::integer(100)},
       {atom("max_queue_bytes"), term::integer(1 << 20)},
       {atom("restart"),
        term::tuple({term::integer(10), term::integer(1000)})}});
}

boost::intrusive_ptr<coop::kill_switch> switch_of(node::node& home) {
  for (const auto& p : home.table().all())
    if (auto* const s = dynamic_cast<coop::kill_switch*>(p.get()))
      return s;
  return nullptr;
}

node::process_ptr node_named(node::node& home, const char* name) {
  for (const auto& p : home.table().all())
    if (auto* const n = dynamic_cast<coop::coop_node*>(p.get()))
      if (n->name_in_template() == atom(name))
        return n;
  return nullptr;
}

std::int64_t restarts(const pid& head) {
  return *request(head, atom("info")).get("restarts")->as_integer();
}

} // namespace

// Who kills `b` has so much to tell of it that `b` comes to rest long before
// the kill switch hears that it is down.
TEST_CASE("a node that rests before it is said to be down is one restart") {
  world w;
  const auto n = test::on_process(w.home, [&] {
    const pid head = *start(atom("undefined")).element(1).as_pid();
    const auto a = node_named(w.home, "a"), b = node_named(w.home, "b");
    send(b->pid(), atom("now"));
    test::await([&] { return b->status() == "waiting" && b->reductions() == 1; });
    for (int i = 0; i < 300'000; ++i)
      b->receive_monitor(self(), b->pid(), make_ref());
    std::atomic<bool> has_said_so{false};
    std::thread killer([&] {
      b->end(atom("kill"));
      has_said_so = true;
    });
    test::await([&] { return !b->is_alive(); });
    a->end(atom("boom"));
    test::await([&] { return has_said_so.load(); });
    killer.join();
    const auto s = switch_of(w.home);
    (void)request(s->pid(), atom("info")); // it has heard
    test::await([&] { return restarts(head) > 0; });
    const term mark = make_ref();
    send(head, term::tuple({atom("$coop"), atom("flush"),
                            term::tuple({self(), mark})}));
    (void)receive(
        [&](const term& m) {
          return m.is_tagged("$coop", 4) && m.element(2) == mark;
        },
        test::patience);
    return restarts(head);
  });
  CHECK(n == 1);
}

// A name is known before its co-op is: who uses it must find the head whole or
// not at all. The thread sanitizer is the judge of it.
TEST_CASE(
    "whoever is asked and whatever ends while a co-op is made, nothing is "
    "left of it") {
  world w;
  const std::size_t before = w.home.table().size();
  std::jthread stranger([&](const std::stop_token& done) {
    const term nobody = w.home.pid_of(0);
    const term info = term::tuple(
        {atom("$coop"), term::tuple({nobody, atom("x")}), atom("info")});
    for (unsigned i = 0; !done.stop_requested(); ++i) {
      const auto head = w.home.whereis(atom("named"));
      if (head && head->queued_control() < 10)
        head->deliver(info, std::nullopt);
      if (i % 8 == 0)
        if (const auto a = node_named(w.home, "a"))
          a->end(atom("boom"));
    }
  });
  test::on_process(w.home, [&] {
    trap_exit(true);
    for (int i = 0; i < 100; ++i)
      if (const auto head = start(atom("named")).element(1).as_pid()) {
        const ref gone = monitor(*head);
        esp::exit(*head, atom("shutdown"));
        (void)receive(
            [&](const term& m) {
              return m.is_tagged("DOWN", 5) && m.element(1).as_ref() == gone;
            },
            test::patience);
      }
  });
  stranger.request_stop();
  stranger.join();
  const auto until = std::chrono::steady_clock::now() + test::patience;
  while (w.home.table().size() != before
         && std::chrono::steady_clock::now() < until)
    std::this_thread::yield();
  CHECK(w.home.table().size() == before);
}
