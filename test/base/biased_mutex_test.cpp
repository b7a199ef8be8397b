#include "base/biased_mutex.hpp"

#include <doctest/doctest.h>

#include <mutex>
#include <thread>
#include <vector>

TEST_CASE("a biased mutex keeps its owner and all others apart") {
  constexpr std::uint64_t by_owner = 3'000'000, by_others = 2'000, others = 3;
  esp::biased_mutex m;
  std::uint64_t first = 0, second = 0; // always the same outside of it
  std::atomic<std::uint64_t> torn{0}, rounds_of_others{0};
  const auto step = [&] {
    if (first != second)
      torn.fetch_add(1);
    ++first;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    ++second;
  };
  std::thread owner([&] {
    // For as long as others want it, too: both must have met.
    for (std::uint64_t i = 0; i < by_owner || rounds_of_others < others; ++i) {
      m.lock_own();
      step();
      m.unlock_own();
    }
  });
  std::vector<std::thread> rest;
  for (std::uint64_t t = 0; t < others; ++t)
    rest.emplace_back([&] {
      for (std::uint64_t i = 0; i < by_others; ++i) {
        const std::lock_guard guard(m);
        step();
      }
      rounds_of_others.fetch_add(1);
    });
  for (auto& t : rest)
    t.join();
  owner.join();
  CHECK(torn == 0);
  CHECK(first == second);
  CHECK(first >= by_owner + others * by_others);
}
