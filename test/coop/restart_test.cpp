// Restarts of a body among threads that come in an order of the test's making.

#include "coop/coop_node.hpp"
#include "coop/coop_service.hpp"
#include "coop/kill_switch.hpp"
#include "plugin/task_table.hpp"
#include "support/live_node.hpp"

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

// No other node in the world.
class nobody final : public node::peers {
public:
  result<void> start() override { return {}; }
  void stop() override {}
  std::uint32_t creation() const noexcept override { return 1; }
  std::uint16_t listen_port() const noexcept override { return 0; }
  node::peer_ptr find(atom) const override { return nullptr; }
  std::vector<node::peer_ptr> connected() const override { return {}; }
  void send(atom, const dist::control&) override {}
  void connect(atom) override {}
  void flush() override {}
};

struct world {
  world() : home(options()) {
    if (!tasks.load(std::string(ESP_TEST_PLUGIN_DIR) + "/seeded.so"))
      throw std::runtime_error("no plugin");
    (void)home.start();
    home.register_name(atom("erlangsp"), home.spawn<coop::coop_service>(tasks));
  }
  ~world() { home.stop(); }

  static node::node_options options() {
    node::node_options o;
    o.peers.node_name = "c@alone";
    o.workers.workers = 2;
    o.make_peers = [](node::peer_events&) {
      return std::make_unique<nobody>();
    };
    return o;
  }

  plugin::task_table tasks;
  node::node home;
};

// On a process of the test's: what is sent under a tag of its own.
term answer(const std::function<void(const term& tag)>& ask) {
  const term tag = make_ref();
  ask(tag);
  const auto a = receive(
      [&](const term& m) { return m.arity() == 2 && m.element(0) == tag; },
      test::patience);
  if (!a)
    throw std::runtime_error("no answer");
  return a->element(1);
}

term request(const pid& to, const term& what) {
  return answer([&](const term& tag) {
    send(to, term::tuple({atom("$coop"), term::tuple({self(), tag}), what}));
  });
}

// Two nodes in a row that may be restarted, their parent this process: {ok,
// Head} or an error.
term start(atom registered) {
  const auto task = [](const char* name) {
    return term::map({{atom("name"), atom(name)},
                      {atom("home"), atom("native")},
                      {atom("plugin"), atom("seeded")},
                      {atom("task"), atom("sleep_on")},
                      {atom("args"), term()},
                      {atom("dataflow"), atom("broadcast")}});
  };
  const term spec = term::map(
      {{atom("nodes"), term::list({task("a"), task("b")})},
       {atom("edges"), term::list({term::tuple({atom("a"), atom("b")})})},
       {atom("window"), term::integer(10)},
       {atom("name"), registered},
       {atom("max_queue"), term::integer(100)},
       {atom("max_queue_bytes"), term::integer(1 << 20)},
       {atom("receiver"), atom("none")},
       {atom("restart"),
        term::tuple({term::integer(10), term::integer(1000)})}});
  return answer([&](const term& tag) {
    send(atom("erlangsp"),
         term::tuple({atom("$gen_call"), term::tuple({self(), tag}),
                      term::tuple({atom("start"), spec})}));
  });
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

template <class F>
void await(F&& f) {
  const auto until = std::chrono::steady_clock::now() + test::patience;
  while (!f()) {
    if (std::chrono::steady_clock::now() > until)
      throw std::runtime_error("waited in vain");
    esp::sleep(milliseconds(1));
  }
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
    await([&] { return b->status() == "waiting" && b->reductions() == 1; });
    for (int i = 0; i < 300'000; ++i)
      b->receive_monitor(self(), b->pid(), make_ref());
    std::atomic<bool> has_said_so{false};
    std::thread killer([&] {
      b->end(atom("kill"));
      has_said_so = true;
    });
    await([&] { return !b->is_alive(); });
    a->end(atom("boom"));
    await([&] { return has_said_so.load(); });
    killer.join();
    const auto s = switch_of(w.home);
    (void)request(s->pid(), atom("info")); // it has heard
    await([&] { return restarts(head) > 0; });
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
