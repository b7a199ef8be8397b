// Thousands of runs of small co-ops, each told by its seed in what order things
// happen. A failure names the seed; ESP_SEED=N runs that one alone, and
// ESP_SEEDS=N as many.

#include "coop/coop_node.hpp"
#include "support/seeded_vm.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>

namespace {

using namespace esp;

constexpr std::int64_t relayed_units = 64 << 10; // four fit into the window
constexpr std::int64_t relay_window = 256 << 10;

struct graph_node {
  std::string name, base, method;
  std::int64_t copies = 1;
  std::vector<std::size_t> next;
  bool is_entry = true;
};

enum class fate { stopped, node_killed, head_killed, vm_vanishes };

// The VM's side of one co-op, from its start to its end.
class seeded_user final : public test::seeded_vm {
public:
  explicit seeded_user(std::uint64_t seed) : seeded_vm(seed) {
    const auto kind = random.below(10);
    end_ = kind < 6   ? fate::stopped
           : kind < 8 ? fate::node_killed
           : kind < 9 ? fate::head_killed
                      : fate::vm_vanishes;
    window_ = static_cast<std::int64_t>(1 + random.below(5));
    to_relay_ = static_cast<std::int64_t>(random.below(25));
    has_meter_ = !random.one_in(3);
    static constexpr const char* methods[]{"broadcast",    "round_robin",
                                           "random",       "shuffle",
                                           "least_loaded", "hash"};
    // Besides, nodes are killed then; or they are all that is.
    may_restart_ = end_ != fate::node_killed && random.one_in(2);
    kills_left_ = may_restart_ ? 1 + random.below(4) : 0;
    next_kill_ = static_cast<std::int64_t>(
        random.below(static_cast<std::size_t>(to_relay_) + 1));
    by_demand_ = may_restart_ && random.one_in(2);
    batch_ = random.one_in(3) ? 3 : 0;
    nodes_.resize(1 + random.below(6));
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      nodes_[i].name = nodes_[i].base = "n" + std::to_string(i);
      // Of a body that is restarted each datum has one result.
      nodes_[i].method =
          methods[may_restart_ ? 1 + random.below(std::size(methods) - 1)
                               : random.below(std::size(methods))];
      nodes_[i].copies = !may_restart_ && random.one_in(4) ? 2 : 1;
      for (std::size_t j = 0; j < i; ++j)
        if (!random.one_in(3) || (may_restart_ && j + 1 == i)) {
          nodes_[j].next.push_back(i);
          nodes_[i].is_entry = false;
        }
    }
    if (!may_restart_ && random.one_in(3))
      put_workers_behind(random.below(nodes_.size()));
    if (random.one_in(2))
      make_instances(
          1 + random.below(3),
          methods[may_restart_ ? 1 + random.below(5) : random.below(6)]);
  }

  // What is wrong with it, if anything.
  std::string complaint;
  bool was_stopped() const { return end_ == fate::stopped; }
  const std::vector<graph_node>& nodes() const { return nodes_; }

protected:
  void offer(std::vector<std::function<void()>>& actions) override {
    if (!asked_)
      actions.emplace_back([this] { ask(); });
    if (!head_ || is_done)
      return;
    if (end_ != fate::stopped && sent_ >= to_relay_ / 2)
      actions.emplace_back([this] { meet_fate(); });
    if (!attached_)
      return;
    if (random.one_in(8))
      look_at_queues();
    if (sent_ < to_relay_ && outstanding_ + relayed_units <= relay_window)
      actions.emplace_back([this] { relay(); });
    if (kills_left_ > 0 && sent_ >= next_kill_)
      actions.emplace_back([this] {
        --kills_left_;
        next_kill_ = std::min<std::int64_t>(
            to_relay_, sent_ + static_cast<std::int64_t>(random.below(8)));
        kill_a_node();
      });
    if (by_demand_ && !wants_account_ && asked_for_ < results_in_all_ + 10)
      actions.emplace_back([this] {
        const auto n = static_cast<std::int64_t>(1 + random.below(5));
        asked_for_ += n;
        to(*head_, receiver,
           term::tuple({atom("$coop"), atom("ask"), term::integer(n)}));
      });
    if (!to_grant_.empty())
      actions.emplace_back([this] { grant(); });
    if (flushes_.size() < 2 && random.one_in(20))
      actions.emplace_back([this] { flush(); });
    if (end_ == fate::stopped && sent_ == to_relay_ && kills_left_ == 0
        && !said_last_flush_)
      actions.emplace_back([this] {
        said_last_flush_ = true;
        flush();
      });
  }

  void hear(const dist::control& c) override {
    if (const auto* const s = std::get_if<dist::send>(&c))
      return hear_message(std::get<esp::pid>(s->to).id, s->message);
    if (const auto* const s = std::get_if<dist::reg_send>(&c)) {
      if (s->message.is_tagged("$coop", 7)) // to coop_meter
        to_grant_.push_back(s->message);
      return;
    }
    if (const auto* const m = std::get_if<dist::monitor>(&c))
      if (std::holds_alternative<atom>(m->to) && !has_meter_)
        net->signal(dist::monitor_exit{m->to, m->from, m->ref, atom("noproc")});
    if (const auto* const e = std::get_if<dist::exit>(&c))
      if (head_ && e->from == *head_) {
        ended_with_ = e->reason.to_string();
        check_reason();
        is_done = true;
      }
  }

private:
  // As coop_instances does.
  void make_instances(std::size_t n, const char* method) {
    const auto once = std::exchange(nodes_, {});
    instances_ = n;
    method_ = method;
    for (std::size_t i = 0; i < n; ++i)
      for (auto one : once) {
        one.base = one.name;
        one.name += "/" + std::to_string(i + 1);
        for (auto& next : one.next)
          next += i * once.size();
        nodes_.push_back(std::move(one));
      }
  }

  // One of the nodes uses a worker for each result, which hands it on.
  void put_workers_behind(std::size_t i) {
    has_workers_ = true;
    graph_node worker = nodes_[i];
    worker.name = worker.base = "w" + nodes_[i].name;
    worker.method = "broadcast";
    worker.is_entry = false;
    nodes_[i].method = "consume";
    nodes_[i].next = {nodes_.size()};
    nodes_.push_back(std::move(worker));
  }

  static term dataflow(const std::string& method) {
    if (method == "hash")
      return term::tuple({atom("hash"), atom("all")});
    if (method == "consume")
      return term::tuple(
          {atom("consume"), term::tuple({term::integer(2), term::integer(1),
                                         term::integer(2)})});
    return atom(method);
  }

  enum : std::uint32_t {
    parent = 10,
    relayer = 20,
    receiver = 30,
    caller = 40,
    dead_letter = 50
  };

  void to(const esp::pid& p, std::uint32_t from, term message) {
    net->signal(dist::send{pid(from), p, std::move(message), {}});
  }

  void ask() {
    asked_ = true;
    std::vector<term> nodes, edges;
    for (const auto& n : nodes_) {
      nodes.push_back(term::map(
          {{atom("name"), atom(n.name)},
           {atom("base"), atom(n.base)},
           {atom("home"), atom("native")},
           {atom("plugin"), atom("seeded")},
           {atom("task"), atom("copies")},
           {atom("args"), term::tuple({atom(n.name), term::integer(n.copies)})},
           {atom("dataflow"), dataflow(n.method)}}));
      for (const auto i : n.next)
        edges.push_back(term::tuple({atom(n.name), atom(nodes_[i].name)}));
    }
    std::vector<std::pair<term, term>> s(
        {{atom("nodes"), term::list(nodes)},
         {atom("edges"), term::list(edges)},
         {atom("window"), term::integer(window_)},
         {atom("instances"),
          term::integer(static_cast<std::int64_t>(instances_))},
         {atom("dataflow"), dataflow(method_)},
         {atom("name"), atom("undefined")},
         {atom("max_queue"), term::integer(100)},
         {atom("max_queue_bytes"), term::integer(1 << 20)},
         {atom("receiver"),
          term::tuple({atom(by_demand_ ? "demand" : "pid"), pid(receiver)})},
         {atom("dead_letter"), term::tuple({atom("pid"), pid(dead_letter)})},
         {atom("tag"), atom("none")}});
    if (may_restart_)
      s.emplace_back(atom("restart"),
                     term::tuple({term::integer(1000), term::integer(1000)}));
    if (batch_ > 0)
      s.emplace_back(atom("batch"), term::integer(batch_));
    net->signal(dist::reg_send{
        pid(parent),
        atom("erlangsp"),
        term::tuple({atom("$gen_call"),
                     term::tuple({pid(parent), atom("started")}),
                     term::tuple({atom("start"), term::map(s)})}),
        {}});
  }

  void hear_message(std::uint32_t at, const term& m) {
    if (at == parent && m.is_tagged("started", 2)) {
      head_ = m.element(1).element(1).as_pid();
      if (!head_)
        return fail("not started: " + m.to_string());
      to(*head_, relayer,
         term::tuple({atom("$coop"), atom("attach"), pid(relayer),
                      term::integer(9), atom("relay")}));
    } else if (at == relayer && m.element(1).is_atom("attached")) {
      attached_ = m.element(3);
    } else if (at == relayer && m.element(1).is_atom("credit")) {
      outstanding_ -= m.element(3).as_integer().value_or(1 << 30);
      if (outstanding_ < 0)
        fail("more credit came back than was spent");
    } else if (at == receiver && m.is_tagged("coop_batch", 3)) {
      const auto all = m.element(2).as_list();
      if (static_cast<std::int64_t>(all->size()) > batch_)
        fail("a batch of " + std::to_string(all->size()));
      for (const term& one : *all)
        hear_result(one);
    } else if (at == receiver) {
      hear_result(m);
    } else if (at == dead_letter) {
      if (!gone_.insert(m.element(3).element(0).as_integer().value_or(0))
               .second)
        fail("twice a dead letter: " + m.to_string());
    } else if (at == caller && m.is_tagged("info", 2)) {
      check_account(m.element(1));
    } else if (at == caller && m.is_tagged("$coop", 4)) {
      if (m.element(1).is_atom("restarted"))
        hear_of_restart(m.element(2).as_integer().value_or(-1));
      else
        hear_mark(m);
    }
  }

  void relay() {
    ++sent_;
    outstanding_ += relayed_units;
    to(*head_, relayer,
       term::tuple({atom("$coop"), atom("data"), *attached_,
                    term::integer(relayed_units), term(),
                    term::tuple({term::integer(sent_), term()})}));
  }

  void grant() {
    const auto i = random.below(to_grant_.size());
    const term asked = to_grant_[i];
    to_grant_.erase(to_grant_.begin() + static_cast<std::ptrdiff_t>(i));
    to(*asked.element(2).as_pid(), receiver,
       term::tuple({atom("$coop"), atom("credit"), asked.element(3),
                    asked.element(5)}));
  }

  void flush() {
    flushes_.push_back({sent_, 0});
    to(*head_, caller,
       term::tuple(
           {atom("$coop"), atom("flush"),
            term::tuple({pid(caller), term::integer(static_cast<std::int64_t>(
                                          flushes_.size() - 1))})}));
  }

  void hear_mark(const term& m) {
    const auto which = m.element(2).as_integer().value_or(-1);
    if (which < 0 || which >= static_cast<std::int64_t>(flushes_.size()))
      return fail("a mark of no flush: " + m.to_string());
    auto& f = flushes_[static_cast<std::size_t>(which)];
    if (++f.marks != m.element(3).as_integer())
      return;
    if (!may_restart_)
      for (std::int64_t i = 1; i <= f.relayed; ++i)
        check_complete(i);
    if (said_last_flush_
        && which + 1 == static_cast<std::int64_t>(flushes_.size())) {
      if (outstanding_ >= relay_window / 2)
        fail("credit is missing after the last flush");
      wants_account_ = true;
      to(*head_, caller,
         term::tuple({atom("$coop"), term::tuple({pid(caller), atom("info")}),
                      atom("info")}));
    }
  }

  // The last one is made again.
  void hear_of_restart(std::int64_t which) {
    if (!may_restart_)
      fail("a restart that nobody asked for");
    if (which + 1 == static_cast<std::int64_t>(flushes_.size()))
      said_last_flush_ = false;
  }

  // Of a co-op that is flushed, and whose data have one result each.
  void check_account(const term& info) {
    const auto number = [](const term& in, const char* key) {
      return in.get(key)->as_integer().value_or(-1);
    };
    if (may_restart_) {
      const term losses = *info.get("losses");
      const auto dead = static_cast<std::int64_t>(gone_.size());
      if (number(losses, "dead_lettered") != dead)
        fail("dead letters: " + std::to_string(dead) + ", " + info.to_string());
      if (results_in_all_ + dead + number(losses, "lost") != sent_)
        fail(std::to_string(sent_) + " sent, " + std::to_string(results_in_all_)
             + " delivered: " + info.to_string());
      for (const auto serial : gone_)
        if (results_.count(serial) > 0)
          fail("delivered and a dead letter: " + std::to_string(serial));
      for (const auto& [serial, ways] : results_)
        if (ways.size() != 1)
          fail("delivered on two ways: " + std::to_string(serial));
    }
    if (by_demand_
        && number(*info.get("demand"), "asked") != asked_for_ - results_in_all_)
      fail(std::to_string(asked_for_) + " asked for, "
           + std::to_string(results_in_all_)
           + " delivered: " + info.to_string());
    net->signal(dist::exit2{pid(parent), *head_, atom("shutdown"), {}});
  }

  using path = std::vector<std::pair<std::string, std::int64_t>>;

  void hear_result(const term& m) {
    ++results_in_all_;
    if (by_demand_ && results_in_all_ > asked_for_)
      fail("nobody has asked for " + m.to_string());
    const auto serial = m.element(0).as_integer().value_or(0);
    path way;
    const auto steps = m.element(1).as_list();
    for (auto i = steps->rbegin(); i != steps->rend(); ++i)
      way.emplace_back(std::string(*i->element(0).as_atom_name()),
                       *i->element(1).as_integer());
    std::vector<std::string> names;
    for (const auto& step : way)
      names.push_back(step.first);
    // In order on each way: by serial, and then by copy. Workers have none.
    const bool is_ordered =
        std::none_of(names.begin(), names.end(),
                     [](const std::string& n) { return n.front() == 'w'; });
    auto& last = last_on_[names];
    std::pair<std::int64_t, path> now{serial, way};
    if (is_ordered && !(last < now))
      fail("out of order: " + m.to_string());
    last = std::move(now);
    if (!results_[serial].insert(std::move(way)).second)
      fail("twice: " + m.to_string());
  }

  // All results of one datum: what the head and each node emitted went where
  // its dataflow method says, and nowhere else.
  void check_complete(std::int64_t serial) {
    auto left = results_[serial];
    const auto all = left;
    const std::size_t width = nodes_.size() / instances_;
    std::size_t chosen = 0;
    for (std::size_t i = 0; i < instances_; ++i) {
      const std::span instance(nodes_.data() + i * width, width);
      const auto is_of_it = [&](const path& p) {
        return std::any_of(
            instance.begin(), instance.end(),
            [&](const graph_node& n) { return n.name == p.front().first; });
      };
      if (std::none_of(all.begin(), all.end(), is_of_it))
        continue;
      ++chosen;
      for (const auto& n : instance)
        if (n.is_entry)
          take(n, {}, left);
    }
    if (chosen != (method_ == "broadcast" ? instances_ : 1))
      fail("the head sent one datum to " + std::to_string(chosen)
           + " instances");
    if (!left.empty())
      fail("a result that nothing accounts for, of " + std::to_string(serial));
  }

  void take(const graph_node& n, const path& before, std::set<path>& left) {
    for (std::int64_t copy = 0; copy < n.copies; ++copy) {
      path here = before;
      here.emplace_back(n.name, copy);
      if (n.next.empty()) {
        if (left.erase(here) != 1)
          fail("lost at " + n.name);
        continue;
      }
      std::vector<std::size_t> chosen;
      for (const auto i : n.next)
        if (std::any_of(left.begin(), left.end(), [&](const path& p) {
              return p.size() > here.size()
                     && std::equal(here.begin(), here.end(), p.begin())
                     && p[here.size()].first == nodes_[i].name;
            }))
          chosen.push_back(i);
      if (chosen.size() != (n.method == "broadcast" ? n.next.size() : 1))
        fail(n.name + " sent one result to " + std::to_string(chosen.size())
             + " nodes");
      for (const auto i : chosen)
        take(nodes_[i], here, left);
    }
  }

  // No queue is longer than the windows of its edges, and the barriers.
  void look_at_queues() {
    if (has_workers_)
      return; // each of those at work has an edge of its own
    for (const auto& p : node->table().all())
      if (const auto* const n = dynamic_cast<coop::coop_node*>(p.get())) {
        std::size_t edges = 0;
        for (const auto& g : nodes_)
          for (const auto i : g.next)
            edges += atom(nodes_[i].name) == n->name_in_template() ? 1 : 0;
        const auto bound =
            std::max<std::size_t>(edges, 1)
            * (static_cast<std::size_t>(window_) + flushes_.size());
        if (n->queued_data() > bound)
          fail("a queue of " + std::to_string(n->queued_data()) + ", not "
               + std::to_string(bound));
      }
  }

  void meet_fate() {
    met_ = true;
    switch (end_) {
    case fate::node_killed:
      kill_a_node();
      break;
    case fate::head_killed:
      net->signal(dist::exit2{pid(parent),
                              *head_,
                              random.one_in(2) ? atom("kill") : atom("oops"),
                              {}});
      break;
    case fate::vm_vanishes:
      net->down();
      is_done = true;
      break;
    case fate::stopped:
      break;
    }
  }

  void kill_a_node() {
    std::vector<esp::pid> all;
    for (const auto& p : node->table().all())
      if (dynamic_cast<coop::coop_node*>(p.get()) != nullptr)
        all.push_back(p->pid());
    if (!all.empty()) // else it is killed already
      net->signal(dist::exit2{pid(parent),
                              all[random.below(all.size())],
                              random.one_in(2) ? atom("kill") : atom("oops"),
                              {}});
  }

  void check_reason() {
    const bool is_right =
        end_ == fate::stopped
            ? ended_with_ == "shutdown"
            : met_ && (ended_with_ == "killed" || ended_with_ == "oops");
    if (!is_right)
      fail("the head ended with " + ended_with_);
  }

  void fail(const std::string& why) {
    if (complaint.empty())
      complaint = why;
  }

  fate end_;
  std::int64_t window_, to_relay_;
  bool has_meter_, may_restart_, by_demand_, has_workers_ = false;
  std::size_t kills_left_;
  std::int64_t next_kill_; // when so many data are sent
  std::int64_t batch_, asked_for_ = 0, results_in_all_ = 0;
  std::set<std::int64_t> gone_;   // as dead letters
  std::vector<graph_node> nodes_; // of one instance after the other
  std::size_t instances_ = 1;
  std::string method_ = "broadcast";

  bool asked_ = false, said_last_flush_ = false, met_ = false;
  bool wants_account_ = false;
  std::optional<esp::pid> head_;
  std::optional<term> attached_;
  std::int64_t sent_ = 0, outstanding_ = 0;
  std::vector<term> to_grant_;
  struct one_flush {
    std::int64_t relayed, marks;
  };
  std::vector<one_flush> flushes_;
  std::map<std::int64_t, std::set<path>> results_;
  std::map<std::vector<std::string>, std::pair<std::int64_t, path>> last_on_;
  std::string ended_with_;
};

plugin::task_table& tasks() {
  static plugin::task_table t;
  static const bool loaded =
      t.load(std::string(ESP_TEST_PLUGIN_DIR) + "/seeded.so").has_value();
  REQUIRE(loaded);
  return t;
}

std::uint64_t run(std::uint64_t seed) {
  const boost::intrusive_ptr<seeded_user> user(new seeded_user(seed));
  test::seeded_world world(user, tasks());
  const bool is_over = world.is_left_alone();
  INFO("ESP_SEED=" << seed);
  if (!is_over)
    world.node().stop(); // else its blocked fibers are waited for
  REQUIRE_MESSAGE(is_over, "processes or blocked fibers are left");
  CHECK_MESSAGE(user->complaint.empty(), user->complaint);
  return world.fingerprint();
}

std::uint64_t number_in(const char* variable, std::uint64_t otherwise) {
  const char* const v = std::getenv(variable);
  return v != nullptr ? std::strtoull(v, nullptr, 10) : otherwise;
}

} // namespace

TEST_CASE("whatever happens first, co-ops lose nothing, mix nothing up, and "
          "end as one") {
  if (const auto one = number_in("ESP_SEED", 0)) {
    run(one);
    return;
  }
  const auto many = number_in("ESP_SEEDS", 2'000);
  for (std::uint64_t seed = 1; seed <= many; ++seed)
    run(seed);
}

TEST_CASE("a seed is a run") {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    INFO("ESP_SEED=" << seed);
    CHECK(run(seed) == run(seed));
  }
}
