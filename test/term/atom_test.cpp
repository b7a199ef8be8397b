#include "esp/term.hpp"

#include "term/atom_table.hpp"
#include "term/bytes_of.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

using esp::atom;
using namespace test;

TEST_CASE("an atom made without a name is ''") {
  CHECK(atom().name().empty());
  CHECK(atom() == atom(""));
}

TEST_CASE("equal names are equal atoms") {
  CHECK(atom("ok") == atom("ok"));
  CHECK(atom("ok") != atom("error"));
  CHECK(atom("ok").name() == "ok");
}

TEST_CASE("a text that is no atom is refused") {
  CHECK_THROWS_AS(atom(std::string(256, 'x')), std::length_error);
  CHECK_THROWS_AS(atom("\xff"), std::length_error);
  CHECK(atom::intern("\xC0\x80").error().code == esp::errc::badarg);
  CHECK(atom::intern(std::string(255, 'x')));
}

TEST_CASE("a latin-1 atom is the one of the same characters in UTF-8") {
  const auto t = term_of(bytes_of(131, 115, 2, 0xE5, 'b'));
  CHECK(t.as_atom() == atom("åb"));
  CHECK(!t.as_atom_name());
  CHECK(t == esp::term(atom("åb")));
  CHECK(t.hash() == esp::term(atom("åb")).hash());
}

TEST_CASE("many threads that intern the same names get the same atoms") {
  constexpr int names = 5'000;
  constexpr int threads = 4;
  std::vector<std::vector<atom>> got(threads);
  std::atomic<int> ready{0};
  std::vector<std::thread> running;
  for (int i = 0; i < threads; ++i) {
    running.emplace_back([&, i] {
      ++ready;
      while (ready < threads) {
        std::this_thread::yield();
      }
      for (int k = 0; k < names; ++k) {
        got[static_cast<std::size_t>(i)].push_back(
            atom("shared_" + std::to_string(k)));
      }
    });
  }
  for (auto& t : running) {
    t.join();
  }
  for (const auto& atoms : got) {
    CHECK(atoms == got[0]);
  }
  std::unordered_set<atom> different(got[0].begin(), got[0].end());
  CHECK(different.size() == names);
  CHECK(got[0][4'321].name() == "shared_4321");
}

TEST_CASE("a name stays where it is while the table grows") {
  const std::string_view before = atom("stays_here").name();
  for (int k = 0; k < 20'000; ++k) {
    (void)atom("grows_" + std::to_string(k));
  }
  CHECK(atom("stays_here").name().data() == before.data());
}
