// What comes at the wrong time, or from whom nobody knows.

#include "coop/head.hpp"
#include "node/spawned.hpp"
#include "support/live_node.hpp"
#include "support/lone_node.hpp"

#include <doctest/doctest.h>

#include <stdexcept>
#include <string>

namespace {

using namespace esp;

struct world : test::lone_node {
  world() : lone_node(std::string(ESP_TEST_PLUGIN_DIR) + "/seeded.so", 2) {}
};

term own(std::initializer_list<term> rest) {
  std::vector<term> all{atom("$coop")};
  all.insert(all.end(), rest.begin(), rest.end());
  return term::tuple(all);
}

// One node, whose results come to this process.
node::process_ptr start_one(node::node& home, const char* task) {
  const term head = test::start_coop(
      {test::native("a", "seeded", task)}, {}, test::patience,
      {{atom("receiver"), term::tuple({atom("pid"), self()})}});
  REQUIRE(head.is_tagged("ok", 2));
  for (const auto& p : home.table().all())
    if (p->what_it_does() == std::string("seeded:") + task)
      return p;
  throw std::runtime_error("no such node");
}

term next_integer() {
  return receive([](const term& m) { return m.as_integer().has_value(); },
                 test::patience)
      .value_or(term());
}

} // namespace

TEST_CASE("a head that is not wired yet answers who attaches") {
  world w;
  const auto answer = test::on_process(w.home, [&] {
    coop::spec s;
    const auto h = w.home.spawn<coop::head>(
        coop::queue_limits{10, 1'000,
                           new coop::dead_letters(w.home, s.dead_letter)},
        s);
    send(h->pid(),
         own({atom("attach"), self(), term::integer(1), atom("edge")}));
    const auto m = receive(
        [](const term& t) { return t.is_tagged("$coop", 6); }, test::patience);
    h->end(atom("kill"));
    return m.value_or(term());
  });
  REQUIRE(answer.is_tagged("$coop", 6));
  CHECK(answer.element(1).is_atom("attached"));
  CHECK(answer.element(4) == term::integer(1'000));
}

TEST_CASE("data under the number of no edge are nobody's") {
  world w;
  const auto [result, info] = test::on_process(w.home, [&] {
    const auto a = start_one(w.home, "sleep_on");
    const term none = term::integer(0xFFFFFFFF);
    for (const char* word : {"priority", "data"})
      send(a->pid(),
           own({atom(word), none, term::integer(0), term(), atom("forged")}));
    send(a->pid(),
         own({atom("batch"), none, term::integer(0), term(),
              term::list({term::integer(1), term::integer(2)})}));
    // what came by `!` is counted as it was before
    send(a->pid(), term::integer(5));
    const term first = next_integer();
    return std::pair(first.to_string(),
                     test::request(a->pid(), atom("info"), test::patience));
  });
  CHECK(result == "5");
  CHECK(info.get("in")->to_string() == "1");
  CHECK(info.get("dropped")->to_string() == "0");
}

TEST_CASE("what a task watches may end, whoever gives its node credit") {
  world w;
  const auto result = test::on_process(w.home, [&] {
    const auto a = start_one(w.home, "watch");
    const auto watched = w.home.spawn<node::spawned_process>([] {
      (void)receive([](const term& m) { return m.is_atom("stop"); },
                    test::patience);
    });
    watched->kick();
    send(a->pid(), watched->pid());
    test::await([&] { return !watched->monitored_by().empty(); });
    send(watched->pid(), atom("stop"));
    test::await([&] { return a->monitors().empty(); });
    send(a->pid(), term::integer(7));
    return next_integer().to_string();
  });
  CHECK(result == "7");
}
