#include "sched/scheduler.hpp"

#include <doctest/doctest.h>

#include <future>
#include <mutex>
#include <set>
#include <thread>

using namespace esp::sched;
using namespace std::chrono_literals;

namespace {

struct job final : runnable {
  explicit job(std::function<void()> body) : f(std::move(body)) {}
  void run() noexcept override { f(); }
  std::size_t stack_size() const noexcept override { return stack; }
  bool on_long_run(std::uint32_t) noexcept override {
    ++long_runs;
    return false;
  }
  std::function<void()> f;
  std::size_t stack = 0;
  std::atomic<int> long_runs{0};
};

runnable_ptr make(std::function<void()> f) {
  return runnable_ptr(new job(std::move(f)));
}

options with_workers(unsigned n) {
  options o;
  o.workers = n;
  return o;
}

} // namespace

TEST_CASE("everything scheduled runs once, whichever thread schedules it") {
  std::atomic<int> ran{0};
  std::promise<void> all;
  {
    scheduler s(with_workers(2));
    for (int i = 0; i < 1'000; ++i)
      s.schedule(make([&] {
        for (int j = 0; j < 10; ++j)
          s.schedule(make([&] {
            if (++ran == 10'000)
              all.set_value();
          }));
      }));
    REQUIRE(all.get_future().wait_for(30s) == std::future_status::ready);
  }
  CHECK(ran == 10'000);
}

TEST_CASE("a blocked runnable keeps its fiber, and its worker goes on") {
  std::mutex m;
  parker p;
  std::promise<void> waiting, others, woken;
  bool wake_came = false;
  scheduler s(with_workers(1));
  s.schedule(make([&] {
    for (;;) {
      {
        const std::lock_guard lock(m);
        if (wake_came)
          break;
        REQUIRE(p.prepare());
      }
      waiting.set_value();
      p.wait();
    }
    woken.set_value();
  }));
  REQUIRE(waiting.get_future().wait_for(30s) == std::future_status::ready);
  s.schedule(make([&] { others.set_value(); }));
  REQUIRE(others.get_future().wait_for(30s) == std::future_status::ready);
  {
    const std::lock_guard lock(m);
    wake_came = true;
    p.wake();
  }
  CHECK(woken.get_future().wait_for(30s) == std::future_status::ready);
}

TEST_CASE("a timed wait ends by itself, and a wake ends it early") {
  std::promise<bool> timed_out, in_time;
  std::promise<parker*> shared;
  parker early;
  scheduler s(with_workers(1));
  s.schedule(make([&] {
    parker p;
    REQUIRE(p.prepare());
    timed_out.set_value(!p.wait_until(std::chrono::steady_clock::now() + 5ms));
  }));
  CHECK(timed_out.get_future().get());

  s.schedule(make([&] {
    REQUIRE(early.prepare());
    shared.set_value(&early);
    in_time.set_value(early.wait_until(std::chrono::steady_clock::now() + 60s));
  }));
  shared.get_future().get()->wake();
  CHECK(in_time.get_future().get());
}

TEST_CASE("a thousand fibers blocked at once are woken, each of them") {
  constexpr int n = 1'000;
  std::mutex m;
  std::vector<std::unique_ptr<parker>> parked;
  std::promise<void> all_parked, all_done;
  std::atomic<int> done{0};
  scheduler s(with_workers(2));
  for (int i = 0; i < n; ++i)
    s.schedule(make([&] {
      auto mine = std::make_unique<parker>();
      parker& p = *mine;
      REQUIRE(p.prepare());
      {
        const std::lock_guard lock(m);
        parked.push_back(std::move(mine));
        if (parked.size() == n)
          all_parked.set_value();
      }
      p.wait();
      if (++done == n)
        all_done.set_value();
    }));
  REQUIRE(all_parked.get_future().wait_for(30s) == std::future_status::ready);
  CHECK(s.read().blocked >= n - 2);
  for (auto& p : parked)
    p->wake();
  CHECK(all_done.get_future().wait_for(30s) == std::future_status::ready);
}

TEST_CASE("more blocked fibers than allowed is a limit, not a crash") {
  options o = with_workers(1);
  o.max_blocked = 3;
  std::atomic<int> refused{0}, blocked{0};
  std::mutex m;
  std::vector<std::shared_ptr<parker>> parked;
  std::promise<void> five;
  std::promise<void> done;
  scheduler s(o);
  for (int i = 0; i < 5; ++i)
    s.schedule(make([&] {
      auto p = std::make_shared<parker>();
      const bool ok = p->prepare();
      if (ok) {
        const std::lock_guard lock(m);
        parked.push_back(p);
      }
      if (ok ? (++blocked + refused == 5) : (++refused + blocked == 5))
        five.set_value();
      if (ok)
        p->wait();
      if (ok && --blocked == 0)
        done.set_value();
    }));
  REQUIRE(five.get_future().wait_for(30s) == std::future_status::ready);
  CHECK(refused == 2);
  for (auto& p : parked)
    p->wake();
  CHECK(done.get_future().wait_for(30s) == std::future_status::ready);
}

TEST_CASE("a task with a larger stack gets it") {
  std::promise<int> sum;
  scheduler s(with_workers(1));
  auto* j = new job([&] {
    volatile char big[1u << 20];
    int n = 0;
    for (std::size_t i = 0; i < sizeof big; i += 4'096) {
      big[i] = 1;
      n += big[i];
    }
    sum.set_value(n);
  });
  j->stack = 2u << 20;
  s.schedule(runnable_ptr(j));
  CHECK(sum.get_future().get() == 256);
}

TEST_CASE("a thread stuck in one run is reported and stood in for") {
  options o = with_workers(1);
  o.long_schedule = 40ms;
  o.takeover = 100ms;
  std::promise<void> release, started, other;
  auto gate = release.get_future().share();
  scheduler s(o);
  auto* stuck = new job([&] {
    started.set_value();
    gate.wait();
  });
  const runnable_ptr keep(stuck);
  s.schedule(keep);
  started.get_future().get();
  s.schedule(make([&] { other.set_value(); }));
  CHECK(other.get_future().wait_for(30s) == std::future_status::ready);
  CHECK(stuck->long_runs > 0);
  CHECK(s.read().stuck == 1);
  release.set_value();
}

TEST_CASE("a worker is charged for what it computes, and for nothing else") {
  std::promise<void> done;
  scheduler s(with_workers(2));
  const auto total = [&s] {
    std::chrono::nanoseconds sum{0};
    for (const auto& w : s.read_workers())
      sum += w.cpu_time;
    return sum;
  };
  s.schedule(make([&] {
    const auto before = total();
    while (total() - before < 50ms) {
    }
    done.set_value();
  }));
  REQUIRE(done.get_future().wait_for(60s) == std::future_status::ready);
  const auto workers = s.read_workers();
  REQUIRE(workers.size() > 2);
  for (std::size_t i = 0; i < workers.size(); ++i) {
    CHECK(workers[i].is_stand_in == (i >= 2));
    if (workers[i].is_stand_in)
      CHECK(workers[i].cpu_time < 50ms);
  }
}
