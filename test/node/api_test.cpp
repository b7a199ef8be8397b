// What a process may do (include/esp/process.hpp), here and towards a real
// Erlang node.

#include "esp/process.hpp"

#include "support/live_node.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using esp::atom;
using esp::errc;
using esp::pid;
using esp::term;
using test::eval;
using test::next;
using test::on_process;

namespace {

const std::string erl = "api_erl@127.0.0.1";

struct world {
  world() : erlang(epmd, erl), home(test::options_of("api@127.0.0.1", epmd)) {
    const auto started = home.start();
    if (!started)
      throw std::runtime_error(started.error().what);
  }
  ~world() { home.stop(); }

  test::epmd_daemon epmd;
  test::erlang_node erlang;
  esp::node::node home;
};

esp::node::node& home() {
  static world w;
  return w.home;
}

bool is_any(const term&) {
  return true;
}

term a(std::string_view name) {
  return atom(name);
}

// Has always one more request to answer: the one before sends the next.
class flooded final : public esp::node::process {
public:
  using process::process;

private:
  std::optional<std::pair<esp::node::message_ptr, esp::node::lane>>
  accept(term m, const std::optional<esp::pid>&) override {
    return std::pair(
        std::make_unique<esp::node::message>(esp::node::what::control,
                                             esp::datum::of(std::move(m))),
        esp::node::lane::control);
  }
  void handle_control(esp::node::message& m) override {
    deliver(m.value.to_term(), std::nullopt);
  }
  void handle_data(esp::node::message_ptr) override {}
};

// Registers a server there that does `body` with From and Request of one call.
void serve_once(const std::string& name, const std::string& body) {
  eval(erl, "T = self(), spawn(fun() -> register(" + name
                + ", self()), "
                  "T ! ready, receive {'$gen_call', {Caller, Tag}, Request} -> "
                + body + " end end), receive ready -> ok end.");
}

esp::destination there(std::string_view name) {
  return std::pair(atom(name), atom(erl));
}

// 'DOWN' and 'EXIT' messages by what they are about.
term down_reason(const esp::ref& r) {
  const auto m = esp::receive(
      [&r](const term& t) {
        return t.is_tagged("DOWN", 5) && t.element(1).as_ref() == r;
      },
      test::patience);
  return m ? m->element(4) : a("nothing");
}
term exit_reason(const pid& from) {
  const auto m = esp::receive(
      [&from](const term& t) {
        return t.is_tagged("EXIT", 3) && t.element(1).as_pid() == from;
      },
      test::patience);
  return m ? m->element(2) : a("nothing");
}

} // namespace

TEST_CASE("off a process's fiber every function is a logic_error") {
  CHECK_THROWS_AS((void)esp::self(), std::logic_error);
  CHECK_THROWS_AS(esp::send(atom("x"), term()), std::logic_error);
  CHECK_THROWS_AS((void)esp::receive(is_any), std::logic_error);
  CHECK_THROWS_AS((void)esp::call(atom("x"), term()), std::logic_error);
  CHECK_THROWS_AS((void)esp::spawn([] {}), std::logic_error);
  CHECK_THROWS_AS(esp::log(esp::level::error, "x"), std::logic_error);
}

TEST_CASE("messages come in order, and a receive that selects leaves the "
          "others") {
  on_process(home(), [] {
    for (int i = 1; i <= 5; ++i)
      esp::send(esp::self(), term::integer(i));
    const auto third =
        esp::receive([](const term& m) { return m.as_integer() == 3; }, 0ms);
    REQUIRE(third);
    for (const int i : {1, 2, 4, 5})
      CHECK(next(0ms) == term::integer(i));
    CHECK_FALSE(esp::receive(is_any, 0ms));
  });
}

TEST_CASE("messages and exits with priority go before those that wait, each in "
          "order") {
  on_process(home(), [] {
    auto& me = *esp::node::process::current();
    const auto urgent = [&me](std::string_view m) {
      me.deliver(a(m), std::nullopt, std::nullopt, true);
    };
    esp::trap_exit(true);
    for (int i = 1; i <= 2; ++i)
      esp::send(esp::self(), term::integer(i));
    urgent("first");
    me.receive_exit(me.pid(), a("second"), false, true);
    me.receive_exit(me.pid(), a("last"), false);
    CHECK(next(0ms) == a("first"));
    urgent("third");
    CHECK(next(0ms).element(2) == a("second"));
    // the last of those that are urgent goes, and others come
    CHECK(next(0ms) == a("third"));
    urgent("fourth");
    urgent("fifth");
    CHECK(esp::receive([](const term& m) { return m.is_atom("fifth"); }, 0ms));
    urgent("sixth");
    for (const term& m : {a("fourth"), a("sixth"), term::integer(1),
                          term::integer(2)})
      CHECK(next(0ms) == m);
    CHECK(next(0ms).element(2) == a("last"));
    CHECK_FALSE(esp::receive(is_any, 0ms));
  });
}

TEST_CASE("a receive ends when its time has come, a sleep not before") {
  on_process(home(), [] {
    const auto start = std::chrono::steady_clock::now();
    CHECK_FALSE(esp::receive(is_any, 30ms));
    esp::sleep(30ms);
    CHECK(std::chrono::steady_clock::now() - start >= 60ms);
  });
}

TEST_CASE("infinity is for ever") {
  on_process(home(), [] {
    const pid me = esp::self();
    const pid p = esp::spawn([me] {
      (void)esp::receive(is_any);
      esp::send(me, a("received"));
      esp::sleep(esp::infinity);
      esp::send(me, a("slept"));
    });
    CHECK_FALSE(esp::receive(is_any, 20ms));
    esp::send(p, a("go"));
    CHECK(next() == a("received"));
    CHECK_FALSE(esp::receive(is_any, 20ms));
    esp::exit(p, a("kill"));
  });
}

TEST_CASE("a call is answered, and what else came stays as it was") {
  on_process(home(), [] {
    serve_once("echo1", "Caller ! between, "
                        "gen:reply({Caller, Tag}, {got, Request})");
    esp::send(esp::self(), a("before"));
    const auto r = esp::call(there("echo1"), term::integer(7));
    REQUIRE(r);
    CHECK(r->to_string() == "{got,7}");
    CHECK(next() == a("before"));
    CHECK(next() == a("between"));
    CHECK_FALSE(esp::receive(is_any, 0ms));
  });
}

TEST_CASE("a server that sends its reply to the pid is heard") {
  on_process(home(), [] {
    serve_once("echo2", "Caller ! {Tag, Request}");
    const auto r = esp::call(there("echo2"), a("x"));
    REQUIRE(r);
    CHECK(*r == a("x"));
  });
}

TEST_CASE("a call of nobody is noproc, of an unknown node noconnection") {
  on_process(home(), [] {
    CHECK(esp::call(there("nobody"), term()).error().code == errc::noproc);
    CHECK(esp::call(atom("nobody"), term()).error().code == errc::noproc);
    CHECK(esp::call(std::pair(atom("x"), atom("no@127.0.0.1")), term())
              .error()
              .code
          == errc::noconnection);
  });
}

TEST_CASE("a server that ends in a call is refused, with its reason") {
  on_process(home(), [] {
    serve_once("dies", "exit({some, reason})");
    const auto r = esp::call(there("dies"), term());
    REQUIRE_FALSE(r);
    CHECK(r.error().code == errc::refused);
    CHECK(r.error().what == "{some,reason}");
  });
}

TEST_CASE("a reply that comes too late is dropped") {
  on_process(home(), [] {
    serve_once("late", "receive go -> ok end, gen:reply({Caller, Tag}, late), "
                       "Caller ! done");
    const auto r = esp::call(there("late"), term(), 20ms);
    REQUIRE_FALSE(r);
    CHECK(r.error().code == errc::timeout);
    esp::send(there("late"), a("go"));
    CHECK(next() == a("done"));
  });
}

TEST_CASE("a call between two of our processes is answered by reply") {
  on_process(home(), [] {
    const pid server = esp::spawn([] {
      const term m = next();
      esp::reply(m.element(1), term::tuple({a("re"), m.element(2)}));
    });
    const auto r = esp::call(server, term::integer(1));
    REQUIRE(r);
    CHECK(r->to_string() == "{re,1}");
  });
}

TEST_CASE("rpc gives a function's value, and its exceptions as refusals") {
  on_process(home(), [] {
    const auto v =
        esp::rpc(atom(erl), "lists", "reverse", {term::list({a("a"), a("b")})});
    REQUIRE(v);
    CHECK(v->to_string() == "[b,a]");
    const auto what = [](std::string_view f, std::initializer_list<term> args) {
      const auto r = esp::rpc(atom(erl), "erlang", f, args);
      return r ? "value"
               : std::string(name(r.error().code)) + " " + r.error().what;
    };
    CHECK(what("throw", {a("x")}) == "refused throw:x");
    CHECK(what("exit", {a("x")}) == "refused exit:x");
    CHECK(what("error", {a("x")}) == "refused error:x");
    CHECK(what("no_such_function", {}) == "refused error:undef");
    const auto gone = esp::rpc(atom("no@127.0.0.1"), "erlang", "node", {});
    REQUIRE_FALSE(gone);
    CHECK(gone.error().code == errc::noconnection);
    const auto late =
        esp::rpc(atom(erl), "timer", "sleep", {a("infinity")}, 20ms);
    REQUIRE_FALSE(late);
    CHECK(late.error().code == errc::timeout);
  });
}

TEST_CASE("a fun runs on the node it came from") {
  on_process(home(), [] {
    const term fun = eval(erl, "fun(X) -> X * 3 end.").element(1);
    const auto v = esp::rpc(
        atom(erl), "erlang", "apply",
        {fun, term::list(std::initializer_list<term>{term::integer(14)})});
    REQUIRE(v);
    CHECK(*v == term::integer(42));
  });
}

TEST_CASE("rpc dials a node that is not connected, and what it runs has a "
          "group leader there") {
  on_process(home(), [] {
    const auto init = eval(erl, "whereis(init).").element(1).as_pid();
    REQUIRE(init);
    const esp::ref r = esp::monitor(*init);
    const auto p = home().connections().find(atom(erl));
    REQUIRE(p);
    p->close("for the test");
    // From here on the loss is not told of what is asked anew.
    CHECK(down_reason(r) == a("noconnection"));
    const auto v = esp::rpc(atom(erl), "erlang", "group_leader", {});
    REQUIRE_MESSAGE(v, v.error().what);
    CHECK(v->as_pid()->node == erl);
  });
}

TEST_CASE("who is asked without end leaves their turn to the others") {
  on_process(home(), [] {
    std::vector<pid> all;
    for (unsigned i = 0; i < 2 * home().workers().config().workers; ++i) {
      const auto p = home().spawn<flooded>();
      p->deliver(a("again"), std::nullopt);
      all.push_back(p->pid());
    }
    for (int i = 0; i < 10; ++i)
      esp::sleep(1ms);
    for (const pid& p : all) {
      const esp::ref r = esp::monitor(p);
      esp::exit(p, a("kill"));
      CHECK(down_reason(r) == a("killed"));
    }
  });
}

TEST_CASE("links and monitors tell how a process of ours ended") {
  on_process(home(), [] {
    esp::trap_exit(true);
    const pid normal = esp::spawn_link([] {});
    CHECK(exit_reason(normal) == a("normal"));
    const pid left = esp::spawn_link([] { esp::exit(a("why")); });
    CHECK(exit_reason(left) == a("why"));
    const pid threw =
        esp::spawn_link([] { throw std::runtime_error("too bad"); });
    const term thrown = exit_reason(threw);
    CHECK(thrown.element(0).to_string()
          == "{cpp_exception,<<\"std::runtime_error\">>,<<\"too bad\">>}");
    // where that stands, first: in this executable
    const auto stack = thrown.element(1).as_list();
    REQUIRE(stack);
    REQUIRE_FALSE(stack->empty());
    CHECK(stack->front().arity() == 4);
    CHECK(stack->front().element(0).is_atom("test_node"));
    CHECK(stack->front().element(3).to_string().find("api_test.cpp")
          != std::string::npos);
    const pid odd = esp::spawn_link([] { throw 7; });
    CHECK(exit_reason(odd).element(0).to_string()
          == "{cpp_exception,<<\"int\">>,<<>>}");
    const pid full = esp::spawn_link([] {
      throw std::system_error(
          std::make_error_code(std::errc::resource_unavailable_try_again),
          "system_limit");
    });
    CHECK(exit_reason(full) == a("system_limit"));

    const pid waits = esp::spawn([] { (void)esp::receive(is_any); });
    const esp::ref r = esp::monitor(waits);
    esp::exit(waits, a("kill"));
    CHECK(down_reason(r) == a("killed"));
    CHECK(down_reason(esp::monitor(waits)) == a("noproc"));
    esp::link(waits);
    CHECK(exit_reason(waits) == a("noproc"));
  });
}

TEST_CASE("an exit signal ends a process that blocks, and every later call "
          "throws it again") {
  std::atomic<int> thrown{0};
  on_process(home(), [&thrown] {
    const pid me = esp::self();
    const pid p = esp::spawn([me, &thrown] {
      esp::send(me, a("ready"));
      for (int i = 0; i < 3; ++i)
        try {
          (void)esp::receive(is_any);
        } catch (const esp::exit_signal& e) {
          thrown += e.reason() == a("enough") ? 1 : 100;
        }
      try {
        esp::send(esp::self(), term());
      } catch (const esp::exit_signal&) {
        ++thrown;
      }
    });
    CHECK(next() == a("ready"));
    const esp::ref r = esp::monitor(p);
    esp::exit(p, a("enough"));
    CHECK(down_reason(r) == a("enough"));
  });
  CHECK(thrown == 4);
}

TEST_CASE("what a process holds is destroyed before its links fire, and may "
          "still send") {
  struct last_words {
    pid to;
    ~last_words() { esp::send(to, a("good_bye")); }
  };
  on_process(home(), [] {
    const pid me = esp::self();
    const pid p = esp::spawn([me] {
      const last_words w{me};
      esp::send(me, a("ready"));
      (void)esp::receive(is_any);
    });
    CHECK(next() == a("ready"));
    (void)esp::monitor(p);
    esp::exit(p, a("shutdown"));
    CHECK(next() == a("good_bye"));
    CHECK(next().is_tagged("DOWN", 5));
  });
}

TEST_CASE("demonitor takes the DOWN that has come already") {
  on_process(home(), [] {
    const pid p = esp::spawn([] {});
    const esp::ref first = esp::monitor(p), second = esp::monitor(p);
    (void)down_reason(second); // so the first one is there as well
    esp::demonitor(first);
    CHECK_FALSE(esp::receive(is_any, 0ms));
  });
}

TEST_CASE("names are given once and go with their process") {
  on_process(home(), [] {
    const pid me = esp::self();
    const pid p = esp::spawn([me] {
      esp::send(me, esp::register_name(atom("a_name")) ? a("yes") : a("no"));
      (void)esp::receive(is_any);
    });
    CHECK(next() == a("yes"));
    CHECK_FALSE(esp::register_name(atom("a_name")));
    CHECK(esp::whereis(atom("a_name")) == p);
    const esp::ref r = esp::monitor(atom("a_name"));
    esp::send(atom("a_name"), a("end"));
    CHECK(down_reason(r) == a("normal"));
    CHECK_FALSE(esp::whereis(atom("a_name")));
  });
}

TEST_CASE("links and monitors reach over the connection, both ways") {
  on_process(home(), [] {
    esp::trap_exit(true);
    const term r = eval(erl, "spawn(fun() -> receive {go, R} -> exit(R) end "
                             "end).");
    const pid theirs = *r.element(1).as_pid();
    esp::link(theirs);
    const esp::ref m = esp::monitor(theirs);
    esp::send(theirs, term::tuple({a("go"), a("there")}));
    CHECK(exit_reason(theirs) == a("there"));
    CHECK(down_reason(m) == a("there"));
    CHECK(down_reason(esp::monitor(there("nobody"))) == a("noproc"));
    CHECK(down_reason(esp::monitor(theirs)) == a("noproc"));

    // theirs watches ours, which ends
    const pid me = esp::self();
    const pid ours = esp::spawn([] { esp::exit(next()); });
    const pid watcher = *eval(erl, "spawn(fun() -> receive {Me, P} -> "
                                   "process_flag(trap_exit, true), link(P), "
                                   "M = monitor(process, P), P ! bye, "
                                   "receive {'EXIT', P, R1} -> "
                                   "receive {'DOWN', M, process, P, R2} -> "
                                   "Me ! {R1, R2} end end end end).")
                             .element(1)
                             .as_pid();
    esp::send(watcher, term::tuple({me, ours}));
    CHECK(next().to_string() == "{bye,bye}");
  });
}

TEST_CASE("unlink holds against an end on its way") {
  on_process(home(), [] {
    const pid theirs =
        *eval(erl, "spawn(fun() -> receive {go, P} -> P ! going, "
                   "exit(bad) end end).")
             .element(1)
             .as_pid();
    esp::link(theirs);
    esp::unlink(theirs);
    const esp::ref m = esp::monitor(theirs);
    esp::send(theirs, term::tuple({a("go"), esp::self()}));
    CHECK(next() == a("going"));
    CHECK(down_reason(m) == a("bad"));
    esp::sleep(0ms); // throws exit_signal if the link had been there
  });
}

TEST_CASE("a sender waits while a peer reads nothing, and goes on when it "
          "does") {
  test::epmd_daemon epmd;
  test::erlang_node slow(epmd, "slow@127.0.0.1");
  esp::node::node n(test::options_of("fast@127.0.0.1", epmd));
  REQUIRE(n.start());
  const atom to("slow@127.0.0.1");
  on_process(n, [&] { (void)eval("slow@127.0.0.1", "ok."); });
  slow.signal(SIGSTOP);
  constexpr int chunks = 64;
  std::atomic<int> sent{0};
  std::atomic<bool> done{false};
  n.spawn<esp::node::spawned_process>([&] {
     const term chunk = term::binary(std::string(1u << 20, 'x'));
     for (int i = 0; i < chunks; ++i) {
       esp::send(std::pair(atom("nobody"), to), chunk);
       ++sent;
     }
     done = true;
   })->kick();
  const auto limit = std::chrono::steady_clock::now() + test::patience;
  const auto p = n.connections().find(to);
  REQUIRE(p);
  while (!p->is_congested() && std::chrono::steady_clock::now() < limit)
    std::this_thread::yield();
  REQUIRE(p->is_congested());
  CHECK(sent < chunks);
  CHECK_FALSE(done);
  slow.signal(SIGCONT);
  while (!done && std::chrono::steady_clock::now() < limit)
    std::this_thread::yield();
  CHECK(sent == chunks);
  n.stop();
}
