#include "coop/dataflow.hpp"

#include <doctest/doctest.h>

namespace {

using namespace esp;
using namespace esp::coop;

term by(const char* how, term part) {
  return term::tuple({atom(how), std::move(part)});
}

std::string cause(const term& t) {
  const auto read = read_dataflow(t, {});
  const term* const why = std::get_if<term>(&read);
  return why != nullptr ? why->to_string() : "ok";
}

TEST_CASE("every method is read") {
  for (const char* name :
       {"broadcast", "round_robin", "random", "shuffle", "least_loaded"})
    CHECK(cause(atom(name)) == "ok");
  for (const char* how : {"hash", "select"}) {
    CHECK(cause(by(how, atom("all"))) == "ok");
    CHECK(cause(by(how, by("element", term::integer(1)))) == "ok");
    CHECK(cause(by(how, by("key", term::binary("k")))) == "ok");
  }
}

TEST_CASE("what is no method is said") {
  CHECK(cause(atom("no_such")) == "{bad_dataflow,no_such}");
  CHECK(cause(atom("hash")) == "{bad_dataflow,hash}");
  CHECK(cause(term::integer(1)) == "{bad_dataflow,1}");
  CHECK(cause(by("hash", by("element", term::integer(0))))
        == "{bad_dataflow,{hash,{element,0}}}");
  CHECK(cause(by("select", by("element", atom("x"))))
        == "{bad_dataflow,{select,{element,x}}}");
  // a node of another home has no tasks here
  CHECK(cause(by("hash", atom("task"))) == "{bad_dataflow,{hash,task}}");
}

} // namespace
