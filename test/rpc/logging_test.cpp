// What we log arrives at a real node's `logger`, and prints as its own
// (protocol.md, section 15).

#include "otp/logging.hpp"

#include "otp/crash_report.hpp"
#include "support/live_node.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <stdexcept>
#include <string>

using esp::atom;
using esp::term;
using test::eval;
using test::on_process;

namespace {

const std::string erl = "log_erl@127.0.0.1";

struct world {
  explicit world(esp::otp::logging_options o = {})
      : erlang(epmd, erl),
        home(test::options_of("log@127.0.0.1", epmd)),
        logging(home, o) {
    const auto started = home.start();
    if (!started)
      throw std::runtime_error(started.error().what);
    logging.start();
  }
  ~world() { home.stop(); }

  test::epmd_daemon epmd;
  test::erlang_node erlang;
  esp::node::node home;
  esp::otp::logging logging;
};

// A handler there that sends each event of ours, and how it prints, to the
// process that asks.
void listen() {
  const term r = eval(
      erl,
      "Form = fun(S) -> {ok, T, _} = erl_scan:string(S), "
      "{ok, F} = erl_parse:parse_form(T), F end, "
      "{ok, M, B} = compile:forms([Form(S) || S <- [\"-module(forward).\", "
      "\"-export([log/2]).\", "
      "\"log(E = #{level := L, meta := M}, #{config := P}) when "
      "node(map_get(pid, M)) =/= node() -> "
      "P ! {event, L, M, unicode:characters_to_binary("
      "logger_formatter:format(E, #{single_line => false}))}; "
      "log(_, _) -> ok.\"]]), "
      "code:load_binary(M, \"forward\", B), "
      "logger:set_primary_config(level, all), "
      "logger:remove_handler(forward), "
      "logger:add_handler(forward, forward, #{config => From, level => all, "
      "filters => [], filter_default => log}).");
  CHECK(r.to_string() == "{ok,ok}");
}

struct event {
  std::string level, text;
  term meta;
};
event next_event() {
  const auto m = esp::receive(
      [](const term& t) { return t.is_tagged("event", 4); }, test::patience);
  if (!m)
    throw std::runtime_error("no log event came");
  return {m->element(1).to_string(),
          std::string(*term(m->element(3)).as_iodata()), m->element(2)};
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

} // namespace

TEST_CASE("esp::log comes with its level, the process and the time") {
  world w;
  on_process(w.home, [] {
    listen();
    esp::log(esp::level::notice, "gr\xC3\xBC\xC3\x9F dich");
    const event e = next_event();
    CHECK(e.level == "notice");
    CHECK(has(e.text, "gr\xC3\xBC\xC3\x9F dich"));
    CHECK(e.meta.get("pid")->as_pid() == esp::self());
    CHECK(e.meta.get("time")->as_integer().value_or(0) > 1'600'000'000'000'000);
    // ours is not a leader there: such an event would come back
    CHECK(e.meta.get("gl")->as_pid()->node == erl);
    esp::log(esp::level::error, "latin-1 \xFC and \xE2\x82");
    CHECK(has(next_event().text, "latin-1 \xC3\xBC and \xC3\xA2\xC2\x82"));
    // the server that takes them is unhurt
    CHECK(eval(erl, "is_pid(whereis(logger)).").to_string() == "{ok,true}");
  });
}

TEST_CASE("a spawned process that throws has a crash report as proc_lib's") {
  world w;
  on_process(w.home, [] {
    listen();
    const esp::pid p = esp::spawn([] { throw std::runtime_error("too bad"); });
    const event e = next_event();
    CHECK(e.level == "error");
    CHECK(has(e.text, "crasher:"));
    CHECK(has(e.text, "initial call: esp:spawn/1"));
    CHECK(has(e.text, "pid: "));
    CHECK(has(e.text, "exception error: {cpp_exception,"
                      "<<\"std::runtime_error\">>,<<\"too bad\">>}"));
    CHECK(has(e.text, "ancestors: ["));
    CHECK_FALSE(has(e.text, "REPORT"));
    CHECK(e.meta.get("pid")->as_pid() == p);
    (void)esp::spawn([] { esp::exit(atom("orderly")); });
    esp::log(esp::level::info, "after");
    CHECK(has(next_event().text, "after")); // an exit is no crash
  });
}

TEST_CASE(
    "a task's crash has a terminate report as gen_server's, cut to size") {
  world w;
  on_process(w.home, [&w] {
    listen();
    static const term stack = term::list(std::initializer_list<term>{
        term::tuple({atom("words"), atom("count"), term::integer(1), term()})});
    auto& me = *esp::node::process::current();
    me.set_origin(
        term::tuple({atom("words"), atom("count"), term::integer(2)}), {});
    esp::otp::report_crash(
        me, term::tuple({atom("oops"), stack}),
        esp::otp::in_hand{term::binary("the datum"),
                          term::binary(std::string(1u << 20, 's'))});
    const event first = next_event();
    CHECK(has(first.text, "Generic server <"));
    CHECK(has(first.text, "terminating"));
    CHECK_MESSAGE(has(first.text, "Last message in was <<\"the datum\">>"),
                  first.text);
    CHECK(has(first.text, "Reason for termination =="));
    CHECK(has(first.text, "oops"));
    CHECK(first.text.size() < 64u << 10);
    const event second = next_event();
    CHECK(has(second.text, "initial call: words:count/2"));
    CHECK(has(second.text, "exception error: oops"));
    CHECK(has(second.text, "in function  words:count/1"));
    esp::otp::report_crash(me, term::tuple({atom("shutdown"), atom("x")}));
    esp::otp::report_crash(me, term(atom("normal")));
    esp::otp::report_crash(
        me, term::tuple({atom("some"), term::list({atom("a"), atom("b")})}));
    CHECK(has(next_event().text, "exception exit: {some,[a,b]}"));
  });
}

TEST_CASE("too many events are left out, counted, and said to be") {
  esp::otp::logging_options few;
  few.burst = 3;
  few.per_second = 1'000;
  world w(few);
  on_process(w.home, [&w] {
    listen();
    while (w.logging.dropped() == 0)
      esp::log(esp::level::info, "one of many");
    for (;;) {
      esp::sleep(esp::milliseconds(5));
      esp::log(esp::level::info, "the last");
      const event e = next_event();
      if (has(e.text, "left out")) {
        CHECK(e.level == "warning");
        break;
      }
      CHECK((has(e.text, "one of many") || has(e.text, "the last")));
    }
  });
}

TEST_CASE("without a connection events are dropped and nobody waits") {
  test::epmd_daemon epmd;
  esp::node::node n(test::options_of("alone@127.0.0.1", epmd));
  esp::otp::logging logging(n);
  REQUIRE(n.start());
  logging.start();
  on_process(n, [] { esp::log(esp::level::error, "to nobody"); });
  CHECK(logging.dropped() == 1);
  n.stop();
}

TEST_CASE(
    "events of a peer's processes that have our leader do not come back") {
  world w;
  on_process(w.home, [] {
    listen();
    const term r = eval(
        erl, "logger:remove_handler(forward), Proxy = {logger_proxy, "
             "'log@127.0.0.1'}, "
             "Proxy ! {log, error, \"~p\", [x], #{pid => self(), time => 0}}, "
             "Proxy ! {log, info, \"text\", #{pid => self(), time => 0}}, "
             "Proxy ! nonsense, "
             "{status, P, _, _} = sys:get_status(Proxy), "
             "node(P).");
    CHECK(r.to_string() == "{ok,'log@127.0.0.1'}");
  });
}
