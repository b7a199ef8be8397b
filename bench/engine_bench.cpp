// What the engine costs without a wire: co-ops in this OS process, on one worker
// unless a name says otherwise, beside what others do with the same graph. One
// item is one hop. bench/README.md has the rows.

#include "node/spawned.hpp"
#include "support/lone_node.hpp"

#include <benchmark/benchmark.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <future>
#include <malloc.h>
#include <thread>

namespace {

std::atomic<std::int64_t> live_bytes{0}, allocations{0};

void* counted(void* p) {
  if (p == nullptr)
    throw std::bad_alloc();
  live_bytes.fetch_add(static_cast<std::int64_t>(malloc_usable_size(p) + 8),
                       std::memory_order_relaxed);
  allocations.fetch_add(1, std::memory_order_relaxed);
  return p;
}
void uncount(void* p) noexcept {
  if (p != nullptr)
    live_bytes.fetch_sub(static_cast<std::int64_t>(malloc_usable_size(p) + 8),
                         std::memory_order_relaxed);
  std::free(p);
}

} // namespace

// All of the heap, with malloc's own 8 bytes a block.
void* operator new(std::size_t size) { return counted(std::malloc(size)); }
void* operator new(std::size_t size, std::align_val_t a) {
  return counted(std::aligned_alloc(static_cast<std::size_t>(a), size));
}
void operator delete(void* p) noexcept { uncount(p); }
void operator delete(void* p, std::size_t) noexcept { uncount(p); }
void operator delete(void* p, std::align_val_t) noexcept { uncount(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
  uncount(p);
}

namespace {

using namespace esp;
using clock = std::chrono::steady_clock;

constexpr auto patience = std::chrono::minutes(1);

std::string plugin_file() {
  const char* const f = std::getenv("ESP_BENCH_PLUGIN");
  return f != nullptr ? f : ESP_BENCH_DIR "/bench_tasks.so";
}

// Runs `body` on a process of that node.
template <class F>
void on_process(node::node& home, F body) {
  std::promise<void> done;
  home.spawn<node::spawned_process>([&] {
        try {
          body();
          done.set_value();
        } catch (...) {
          done.set_exception(std::current_exception());
        }
      })
      ->kick();
  done.get_future().get();
}

term native(const std::string& name, const char* task,
            const term& args = atom("undefined")) {
  return test::native(name, "bench_tasks", task, args);
}

term edge(const std::string& from, const std::string& to) {
  return term::tuple({atom(from), atom(to)});
}

// Ends a co-op of this process's, and waits for it.
void stop(const pid& head, const char* reason) {
  unlink(head);
  const ref down = monitor(head);
  exit(head, atom(reason));
  (void)receive([&](const term& m) { return m.element(1) == term(down); },
                patience);
}

// A co-op that this process relays to.
class driven {
public:
  driven(std::vector<term> nodes, std::vector<term> edges,
         std::vector<std::pair<term, term>> more = {})
      : head_(started(test::start_coop(std::move(nodes), std::move(edges),
                                       patience, std::move(more)))) {
    send(head_, term::tuple({own_, atom("attach"), self(), term::integer(1),
                             atom("relay")}));
    edge_ = next("attached").element(3);
  }
  ~driven() { stop(head_, "shutdown"); }

  void relay(term datum) {
    send(head_, term::tuple({own_, atom("data"), edge_, term::integer(1),
                             term(), std::move(datum)}));
  }
  void flush() {
    const term mark = make_ref();
    send(head_, term::tuple({own_, atom("flush"), term::tuple({self(), mark})}));
    for (auto n = *next("flushed").element(3).as_integer(); n > 1; --n)
      (void)next("flushed");
  }
  const pid& head() const { return head_; }

private:
  static pid started(const term& t) {
    if (!t.is_tagged("ok", 2))
      throw std::runtime_error(t.to_string());
    return *t.element(1).as_pid();
  }
  static term next(const char* word) {
    const auto m = receive(
        [&](const term& t) {
          return t.arity() > 2 && t.element(1).is_atom(word);
        },
        patience);
    if (!m)
      throw std::runtime_error(std::string("no ") + word);
    return *m;
  }

  const term own_ = atom("$coop");
  pid head_;
  term edge_;
};


double seconds_since(clock::time_point start) {
  return std::chrono::duration<double>(clock::now() - start).count();
}

// The columns of a table are those of its first row.
void make_columns(benchmark::State& state) {
  for (const char* c : {"allocations", "copies", "bytes", "kill_ns"})
    state.counters[c] = 0;
}

// Everything happens on a process of the node, which has one worker.
template <class F>
void run(benchmark::State& state, unsigned workers, F&& f) {
  make_columns(state);
  test::lone_node here(plugin_file(), workers);
  on_process(here.home, [&] { f(); });
}

// One node of `first`, `stages` of `between` and one of `last`, each behind the
// one before it.
struct row {
  std::vector<term> nodes, edges;
};
row in_a_row(const char* first, const char* between, std::int64_t stages,
             const char* last) {
  row r{{native("first", first)}, {}};
  std::string before = "first";
  for (std::int64_t i = 0; i <= stages; ++i) {
    const std::string name = "p" + std::to_string(i);
    r.nodes.push_back(native(name, i < stages ? between : last));
    r.edges.push_back(edge(std::exchange(before, name), name));
  }
  return r;
}

// One datum makes `n` of a task's; they go through `stages` nodes that hand on
// what they get, into one that counts.
void pipeline(benchmark::State& state) {
  const auto stages = state.range(0);
  constexpr std::int64_t n = 100'000;
  run(state, 1, [&] {
    auto row = in_a_row("source", "pass", stages, "sink");
    driven d(std::move(row.nodes), std::move(row.edges));
    for (auto _ : state) {
      const auto start = clock::now();
      d.relay(term::integer(n));
      d.flush();
      state.SetIterationTime(seconds_since(start));
    }
  });
  state.SetItemsProcessed(state.iterations() * n * (stages + 1));
}
BENCHMARK(pipeline)->Arg(8)->UseManualTime();

// Strings of 100 bytes through eight nodes: what is allocated and copied a hop,
// beside the bytes of each string.
void typed_values(benchmark::State& state) {
  constexpr std::int64_t n = 10'000, stages = 8;
  std::int64_t made = 0, copies = 0;
  run(state, 1, [&] {
    auto row = in_a_row("texts", "pass_text", stages, "text_sink");
    driven d(std::move(row.nodes), std::move(row.edges),
             {{atom("receiver"), term::tuple({atom("pid"), self()})}});
    for (auto _ : state) {
      const auto before = allocations.load();
      const auto start = clock::now();
      d.relay(term::integer(n));
      d.flush();
      state.SetIterationTime(seconds_since(start));
      made += allocations.load() - before - n;
      const auto counted = receive(
          [](const term& m) { return m.as_integer().has_value(); }, patience);
      copies += counted->as_integer().value_or(0);
    }
  });
  const auto hops
      = static_cast<double>(state.iterations() * n * (stages + 1));
  state.SetItemsProcessed(state.iterations() * n * (stages + 1));
  state.counters["allocations"] = static_cast<double>(made) / hops;
  state.counters["copies"] = static_cast<double>(copies) / hops;
}
BENCHMARK(typed_values)->UseManualTime();

// One token through 1,000 nodes, each of which is idle when it comes.
void lone_token(benchmark::State& state) {
  const auto length = state.range(0);
  run(state, 1, [&] {
    std::vector<term> nodes, edges;
    for (std::int64_t i = 0; i < length; ++i) {
      const std::string name = "p" + std::to_string(i);
      nodes.push_back(native(name, i + 1 == length ? "pong" : "pass"));
      if (i > 0)
        edges.push_back(edge("p" + std::to_string(i - 1), name));
    }
    driven d(std::move(nodes), std::move(edges));
    for (auto _ : state) {
      const auto start = clock::now();
      d.relay(self());
      (void)receive([](const term& m) { return m.is_atom("pong"); }, patience);
      state.SetIterationTime(seconds_since(start));
    }
  });
  state.SetItemsProcessed(state.iterations() * length);
}
BENCHMARK(lone_token)->Arg(1'000)->UseManualTime();

// Each of a task's results goes to all of `width` nodes that count.
void broadcast(benchmark::State& state) {
  const auto width = state.range(0);
  constexpr std::int64_t n = 20'000;
  run(state, 1, [&] {
    std::vector<term> nodes{native("source", "source")}, edges;
    for (std::int64_t i = 0; i < width; ++i) {
      const std::string name = "s" + std::to_string(i);
      nodes.push_back(native(name, "sink"));
      edges.push_back(edge("source", name));
    }
    driven d(std::move(nodes), std::move(edges));
    for (auto _ : state) {
      const auto start = clock::now();
      d.relay(term::integer(n));
      d.flush();
      state.SetIterationTime(seconds_since(start));
    }
  });
  state.SetItemsProcessed(state.iterations() * n * width);
}
BENCHMARK(broadcast)->Arg(1)->Arg(8)->Arg(64)->UseManualTime();

// Two processes that wait for each other in turn: one item is a fiber that gives
// way and one that goes on.
void blocked(benchmark::State& state) {
  constexpr std::int64_t n = 10'000;
  run(state, 1, [&] {
    const term ball = atom("ball"), stop = atom("stop");
    const auto any = [](const term&) { return true; };
    const auto me = node::process::current();
    const pid here = self();
    const auto other = me->home().spawn<node::spawned_process>([&] {
      for (;;) {
        const auto m = receive(any, patience);
        if (!m || *m == stop)
          return;
        send(here, ball);
      }
    });
    other->kick();
    for (auto _ : state) {
      const auto start = clock::now();
      for (std::int64_t i = 0; i < n; ++i) {
        send(other->pid(), ball);
        (void)receive(any, patience);
      }
      state.SetIterationTime(seconds_since(start));
    }
    send(other->pid(), stop);
  });
  state.SetItemsProcessed(state.iterations() * n * 2);
}
BENCHMARK(blocked)->UseManualTime();

// A co-op of eight nodes, from the request to the answer, with its head; its end
// is not counted.
void create_coop(benchmark::State& state) {
  run(state, 1, [&] {
    for (auto _ : state) {
      std::vector<term> nodes, edges;
      for (int i = 0; i < 8; ++i) {
        nodes.push_back(native("p" + std::to_string(i), "pass"));
        if (i > 0)
          edges.push_back(
              edge("p" + std::to_string(i - 1), "p" + std::to_string(i)));
      }
      const auto start = clock::now();
      const term made
          = test::start_coop(std::move(nodes), std::move(edges), patience);
      state.SetIterationTime(seconds_since(start));
      stop(*made.element(1).as_pid(), "shutdown");
    }
  });
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(create_coop)->UseManualTime();

// So many nodes behind one; made, and killed by the kill switch. One item is
// one node.
void create_and_kill(benchmark::State& state) {
  const auto n = state.range(0);
  double killing = 0, bytes = 0;
  run(state, 1, [&] {
    for (auto _ : state) {
      std::vector<term> nodes{native("router", "pass")}, edges;
      for (std::int64_t i = 0; i < n; ++i) {
        const std::string name = "w" + std::to_string(i);
        nodes.push_back(native(name, "pass"));
        edges.push_back(edge("router", name));
      }
      const auto before = live_bytes.load();
      const auto start = clock::now();
      const term made
          = test::start_coop(std::move(nodes), std::move(edges), patience);
      const pid head = *made.element(1).as_pid();
      const auto there = clock::now();
      esp::sleep(milliseconds(200)); // whoever made it clears up
      bytes = static_cast<double>(live_bytes.load() - before);
      const auto slept = clock::now() - there;
      stop(head, "kill");
      const auto& table = node::process::current()->home().table();
      while (table.size() > 3)
        esp::sleep(milliseconds(0));
      killing += seconds_since(there + slept);
      state.SetIterationTime(seconds_since(start + slept));
    }
  });
  state.SetItemsProcessed(state.iterations() * n);
  state.counters["bytes"] = bytes / static_cast<double>(n);
  state.counters["kill_ns"] = killing * 1e9
                              / static_cast<double>(state.iterations() * n);
}
BENCHMARK(create_and_kill)
    ->Arg(1'000)
    ->Arg(10'000)
    ->Arg(100'000)
    ->Iterations(1)
    ->UseManualTime();

// ---- What there is to compare with ------------------------------------------

// The least that a hop with a queue can cost: intrusive messages through Vyukov's
// queues, on one thread, with the atomics that a second one would need.
struct item {
  std::atomic<item*> next{nullptr};
};
class vyukov_queue {
public:
  void push(item* i) noexcept {
    i->next.store(nullptr, std::memory_order_relaxed);
    head_.exchange(i, std::memory_order_acq_rel)
        ->next.store(i, std::memory_order_release);
  }
  item* pop() noexcept {
    item* t = tail_;
    item* n = t->next.load(std::memory_order_acquire);
    if (t == &stub_) {
      if (n == nullptr)
        return nullptr;
      tail_ = t = n;
      n = n->next.load(std::memory_order_acquire);
    }
    if (n != nullptr) {
      tail_ = n;
      return t;
    }
    if (t != head_.load(std::memory_order_acquire))
      return nullptr;
    push(&stub_);
    n = t->next.load(std::memory_order_acquire);
    if (n == nullptr)
      return nullptr;
    tail_ = n;
    return t;
  }

private:
  item stub_;
  std::atomic<item*> head_{&stub_};
  item* tail_ = &stub_;
};

void intrusive_queues(benchmark::State& state) {
  make_columns(state);
  constexpr std::size_t stages = 9, batch = 64;
  std::vector<vyukov_queue> queues(stages + 1);
  std::vector<item> items(batch);
  for (auto _ : state) {
    for (auto& i : items)
      queues[0].push(&i);
    for (std::size_t s = 0; s < stages; ++s)
      while (item* const i = queues[s].pop())
        queues[s + 1].push(i);
    while (queues[stages].pop() != nullptr) {
    }
  }
  state.SetItemsProcessed(state.iterations()
                          * static_cast<std::int64_t>(batch * stages));
}
BENCHMARK(intrusive_queues);

} // namespace

// ESP_CURVES=1: how cost grows, for doc/performance.md.
int main(int argc, char** argv) {
  if (std::getenv("ESP_CURVES") != nullptr) {
    for (const std::int64_t n : {10, 100, 10'000, 100'000})
      benchmark::RegisterBenchmark("lone_token", lone_token)
          ->Arg(n)
          ->UseManualTime();
    for (const std::int64_t n : {2, 4, 16, 32, 256})
      benchmark::RegisterBenchmark("broadcast", broadcast)
          ->Arg(n)
          ->UseManualTime();
    benchmark::RegisterBenchmark("create_and_kill", create_and_kill)
        ->Arg(1'000'000)
        ->Iterations(1)
        ->UseManualTime();
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv))
    return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
