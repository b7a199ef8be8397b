// A C-node in the test's own process, run by a seed: which process is next,
// when it gives way, when a signal arrives, when credit comes. The one peer is
// a model of a VM that speaks doc/messages.md: it starts a co-op, relays with
// credit, grants credit for results, flushes, and may kill or vanish. All of
// it happens on one worker, so that a seed is a run.

#pragma once

#include "coop/coop_service.hpp"
#include "node/node.hpp"
#include "plugin/task_table.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace test {

// splitmix64: the same everywhere, unlike std's distributions.
class seeded_random {
public:
  explicit seeded_random(std::uint64_t seed) : state_(seed) {}
  std::size_t below(std::size_t n) {
    state_ += 0x9E3779B97F4A7C15U;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return static_cast<std::size_t>((z ^ (z >> 31)) % n);
  }
  bool one_in(std::size_t n) { return below(n) == 0; }

private:
  std::uint64_t state_;
};

class seeded_net;

// The VM: what it may do now is a list of actions, one of which is taken each
// time it runs; then it comes back to the run queue.
class seeded_vm : public esp::sched::runnable {
public:
  explicit seeded_vm(std::uint64_t seed) : random(seed) {}

  void run() noexcept final {
    is_queued_ = false;
    std::vector<std::function<void()>> actions;
    if (!arriving_.empty())
      actions.emplace_back([this] {
        const auto c = std::move(arriving_.front());
        arriving_.pop_front();
        hear(c);
      });
    offer(actions);
    if (actions.empty())
      return;
    actions[random.below(actions.size())]();
    awake();
  }

  void arrives(esp::dist::control c) {
    arriving_.push_back(std::move(c));
    awake();
  }
  void awake() {
    if (!std::exchange(is_queued_, true))
      node->workers().schedule(esp::sched::runnable_ptr(this));
  }

  static esp::atom name() { return esp::atom("vm@sim"); }
  static esp::pid pid(std::uint32_t id) { return {name(), id, 0, 77}; }

  seeded_random random;
  std::atomic<bool> is_done{false}; // it has seen to the end of its co-op
  esp::node::node* node = nullptr;
  seeded_net* net = nullptr;

protected:
  virtual void hear(const esp::dist::control& c) = 0;
  virtual void offer(std::vector<std::function<void()>>& actions) = 0;

private:
  std::deque<esp::dist::control> arriving_;
  bool is_queued_ = false;
};

// The connection to the VM. Not a socket in sight.
class seeded_net final : public esp::node::peers {
public:
  seeded_net(esp::node::peer_events& events, seeded_vm& vm)
      : events_(events), vm_(vm), link_(std::make_shared<connection>(*this)) {
    vm_.net = this;
  }

  // From the VM to the node.
  void signal(esp::dist::control c) {
    if (is_up_)
      events_.on_signal(link_, std::move(c));
  }
  void up() {
    is_up_ = true;
    events_.on_up(link_);
  }
  void down() {
    if (std::exchange(is_up_, false))
      events_.on_down(link_, "seeded");
  }

  esp::result<void> start() override { return {}; }
  void stop() override {}
  std::uint32_t creation() const noexcept override { return 5; }
  std::uint16_t listen_port() const noexcept override { return 0; }
  esp::node::peer_ptr find(esp::atom) const override {
    return is_up_ ? link_ : nullptr;
  }
  std::vector<esp::node::peer_ptr> connected() const override {
    if (!is_up_)
      return {};
    return {link_};
  }
  // Who has vanished stays away.
  void send(esp::atom node, const esp::dist::control& c) override {
    if (is_up_)
      vm_.arrives(c);
    else
      events_.on_unreachable(node, "seeded");
  }
  void connect(esp::atom) override {}
  void flush() override {}

private:
  struct connection final : esp::node::peer {
    explicit connection(seeded_net& n) : net(n) {}
    esp::atom name() const noexcept override { return seeded_vm::name(); }
    std::uint64_t flags() const noexcept override { return ~0ULL; }
    std::uint32_t creation() const noexcept override { return 77; }
    bool is_up() const noexcept override { return net.is_up_; }
    void send(const esp::dist::control& c) override {
      if (net.is_up_)
        net.vm_.arrives(c);
    }
    void flush() override {}
    bool is_congested() const noexcept override { return false; }
    void on_drain(std::function<void()> resume) override { resume(); }
    void close(std::string) override { net.down(); }
    counters count() const noexcept override { return {}; }
    seeded_net& net;
  };

  esp::node::peer_events& events_;
  seeded_vm& vm_;
  const std::shared_ptr<connection> link_;
  bool is_up_ = false;
};

// A node with the service `erlangsp`, and the VM that comes to it.
class seeded_world {
public:
  seeded_world(boost::intrusive_ptr<seeded_vm> vm,
               esp::plugin::task_table& tasks)
      : vm_(std::move(vm)), node_(options()) {
    vm_->node = &node_;
    (void)node_.start();
    const auto service = node_.spawn<esp::coop::coop_service>(tasks);
    node_.register_name(esp::atom("erlangsp"), service);
    node_.workers().schedule(esp::sched::runnable_ptr(new arrival(*vm_)));
  }

  // Waits for it: all that happens goes on without us. False: it does not.
  bool is_left_alone() {
    using clock = std::chrono::steady_clock;
    const auto until = clock::now() + std::chrono::seconds(20);
    const auto is_over = [this] {
      return vm_->is_done && node_.table().size() == 1
             && node_.workers().read().blocked == 0;
    };
    while (!is_over() && clock::now() < until)
      std::this_thread::yield();
    return is_over();
  }
  esp::node::node& node() noexcept { return node_; }
  // What every choice was among until the VM was done, in one number: the
  // run's fingerprint.
  std::uint64_t fingerprint() const noexcept { return fingerprint_; }

private:
  struct arrival final : esp::sched::runnable {
    explicit arrival(seeded_vm& v) : vm(v) {}
    void run() noexcept override {
      vm.net->up();
      vm.awake();
    }
    seeded_vm& vm;
  };

  esp::node::node_options options() {
    esp::node::node_options o;
    o.peers.node_name = "c@sim";
    o.workers.choose = [this](std::size_t n) {
      if (!vm_->is_done) // who reads it is not this thread
        fingerprint_ = (fingerprint_ ^ n) * 0x100000001B3U;
      return vm_->random.below(n);
    };
    o.make_peers = [this](esp::node::peer_events& events) {
      return std::make_unique<seeded_net>(events, *vm_);
    };
    return o;
  }

  boost::intrusive_ptr<seeded_vm> vm_;
  std::uint64_t fingerprint_ = 0xCBF29CE484222325U;
  esp::node::node node_;
};

} // namespace test
