#include "node/bonds.hpp"

#include <doctest/doctest.h>

#include <map>
#include <random>

namespace {

struct entry {
  int name;
  int value;
  int key() const noexcept { return name; }
};
using entries = esp::node::bonds<entry>;

void check_same(entries& found, const std::map<int, int>& wanted) {
  CHECK(found.size() == wanted.size());
  for (const auto& e : found) {
    REQUIRE(wanted.contains(e.name));
    CHECK(wanted.at(e.name) == e.value);
  }
  for (int name = 0; name < 200; ++name) {
    const auto* const e = found.find(name);
    REQUIRE((e != nullptr) == wanted.contains(name));
    if (e != nullptr)
      CHECK(e->value == wanted.at(name));
  }
}

} // namespace

TEST_CASE("bonds are a map, few or many") {
  std::minstd_rand random(7);
  entries found;
  std::map<int, int> wanted;
  for (int step = 0; step < 6'000; ++step) {
    // It grows past where an index pays and shrinks again, many times.
    const bool grows = (step / 500) % 2 == 0;
    const int name = static_cast<int>(random() % 200);
    if (random() % 4 != 0 ? grows : !grows) {
      found.add({name, step});
      wanted.emplace(name, step); // the first one stays
    } else if (auto* const e = found.find(name)) {
      found.erase(e);
      wanted.erase(name);
    }
    if (step % 701 == 0) {
      found.erase_if([](const entry& e) { return e.value % 3 == 0; });
      std::erase_if(wanted, [](const auto& w) { return w.second % 3 == 0; });
    }
    if (step % 50 == 0)
      check_same(found, wanted);
  }
  check_same(found, wanted);
}
