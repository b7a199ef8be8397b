// Who may put what into the table, and what becomes of it.

#include "rpc/function_table.hpp"

#include <doctest/doctest.h>

#include <memory>

using esp::atom;
using esp::term;
using namespace esp::served;

namespace {

published entry(const char* module, const char* name, std::size_t arity,
                std::shared_ptr<int> held = {}) {
  return {atom(module), atom(name), arity,
          [held](call_context&, arguments) { return term(); }};
}

bool has(const function_table& t, const char* module, const char* name,
         std::size_t arity) {
  return t.has(atom(module), atom(name), arity);
}

} // namespace

TEST_CASE("what is published is there until its publisher brings something "
          "else") {
  function_table t;
  const atom us("us");
  CHECK(t.publish(us, {entry("m", "f", 0), entry("m", "f", 1)}));
  CHECK(has(t, "m", "f", 0));
  CHECK(has(t, "m", "f", 1));
  CHECK_FALSE(has(t, "m", "f", 2));
  CHECK(t.has_module(atom("m")));
  CHECK(t.publish(us, {entry("n", "g", 0)}));
  CHECK_FALSE(has(t, "m", "f", 0));
  CHECK_FALSE(t.has_module(atom("m")));
  CHECK(has(t, "n", "g", 0));
  CHECK(t.publish(us, {}));
  CHECK_FALSE(t.has_module(atom("n")));
}

TEST_CASE("a module has one publisher, and the node's own have none") {
  function_table t;
  t.add("erlang", "node", 0,
        [](call_context&, arguments) { return term(atom("here")); });
  REQUIRE(t.publish(atom("one"), {entry("m", "f", 0)}));
  const auto own = t.publish(
      atom("two"), {entry("ok", "f", 0), entry("erlang", "other", 0)});
  REQUIRE_FALSE(own);
  CHECK(own.error().code == esp::errc::already);
  CHECK(own.error().what == "module erlang is the node's own");
  const auto taken =
      t.publish(atom("two"), {entry("ok", "f", 0), entry("m", "g", 0)});
  REQUIRE_FALSE(taken);
  CHECK(taken.error().what == "module m is plugin one's");
  CHECK_FALSE(t.has_module(atom("ok")));
  CHECK(has(t, "m", "f", 0));
  // once it has been given up, anybody may have it
  CHECK(t.publish(atom("one"), {}));
  CHECK(t.publish(atom("two"), {entry("m", "g", 0)}));
}

TEST_CASE("what a function holds goes with it") {
  function_table t;
  const auto held = std::make_shared<int>();
  REQUIRE(t.publish(atom("us"), {entry("m", "f", 0, held)}));
  CHECK(held.use_count() == 2);
  REQUIRE(t.publish(atom("us"), {entry("m", "f", 0)}));
  CHECK(held.use_count() == 1);
}

TEST_CASE("a module is there with its functions, or because it is known") {
  function_table t;
  t.know([] {
    return std::vector<loaded_module>{
        {atom("us"), term::string("/us.so"), "1.2"},
        {atom("quiet"), term(atom("preloaded")), {}}};
  });
  t.add("erlang", "node", 0,
        [](call_context&, arguments) { return term(atom("here")); });
  REQUIRE(t.publish(atom("us"), {entry("m", "f", 2)}));
  CHECK(t.modules().size() == 4);
  for (const auto& m : t.modules()) {
    CHECK(t.has_module(m.name));
    CHECK(t.has(m.name, atom("module_info"), 0));
    CHECK(t.has(m.name, atom("module_info"), 1));
    CHECK_FALSE(t.has(m.name, atom("module_info"), 2));
    if (m.name == atom("m")) { // is in the file of who published it
      CHECK(m.file == term::string("/us.so"));
      CHECK(m.version == "1.2");
    }
  }
  CHECK_FALSE(has(t, "nope", "module_info", 0));
  CHECK(t.functions_of(atom("m"))
        == std::vector<std::pair<atom, std::size_t>>{{atom("f"), 2}});
  CHECK(t.functions_of(atom("quiet")).empty());
}
