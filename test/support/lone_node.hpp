// A C-node in this OS process with no other node in the world: co-ops are
// started and spoken to by processes of its own, as doc/messages.md has it.

#pragma once

#include "esp/process.hpp"

#include "coop/coop_service.hpp"
#include "node/node.hpp"
#include "plugin/task_table.hpp"

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace test {

class nobody final : public esp::node::peers {
public:
  esp::result<void> start() override { return {}; }
  void stop() override {}
  std::uint32_t creation() const noexcept override { return 1; }
  std::uint16_t listen_port() const noexcept override { return 0; }
  esp::node::peer_ptr find(esp::atom) const override { return nullptr; }
  std::vector<esp::node::peer_ptr> connected() const override { return {}; }
  void send(esp::atom, const esp::dist::control&) override {}
  void connect(esp::atom) override {}
  void flush() override {}
};

struct lone_node {
  // With the service `erlangsp`, and this plugin loaded.
  lone_node(const std::string& plugin, unsigned workers)
      : home(options(workers)) {
    if (!tasks.load(plugin))
      throw std::runtime_error("no plugin " + plugin);
    (void)home.start();
    home.register_name(esp::atom("erlangsp"),
                       home.spawn<esp::coop::coop_service>(tasks));
  }
  ~lone_node() { home.stop(); }

  static esp::node::node_options options(unsigned workers) {
    esp::node::node_options o;
    o.peers.node_name = "c@alone";
    o.workers.workers = workers;
    o.make_peers = [](esp::node::peer_events&) {
      return std::make_unique<nobody>();
    };
    return o;
  }

  esp::plugin::task_table tasks;
  esp::node::node home;
};

// The rest is for the fiber of a process of that node.

// What is answered under a tag of its own.
template <class Ask>
esp::term answer(Ask&& ask, std::chrono::milliseconds limit) {
  const esp::term tag = esp::make_ref();
  ask(tag);
  const auto a = esp::receive(
      [&](const esp::term& m) { return m.arity() == 2 && m.element(0) == tag; },
      limit);
  if (!a)
    throw std::runtime_error("no answer");
  return a->element(1);
}

inline esp::term request(const esp::pid& to, const esp::term& what,
                         std::chrono::milliseconds limit) {
  using esp::term;
  return answer(
      [&](const term& tag) {
        esp::send(to, term::tuple({esp::atom("$coop"),
                                   term::tuple({esp::self(), tag}), what}));
      },
      limit);
}

// A node of a spec.
inline esp::term native(std::string_view name, std::string_view plugin,
                        std::string_view task,
                        const esp::term& args = esp::atom("undefined"),
                        const esp::term& dataflow = esp::atom("broadcast")) {
  using esp::atom;
  return esp::term::map({{atom("name"), atom(name)},
                         {atom("home"), atom("native")},
                         {atom("plugin"), atom(plugin)},
                         {atom("task"), atom(task)},
                         {atom("args"), args},
                         {atom("dataflow"), dataflow}});
}

// The co-op's parent is this process: {ok, Head} or an error. `more` replaces
// what stands here.
inline esp::term
start_coop(std::vector<esp::term> nodes, std::vector<esp::term> edges,
           std::chrono::milliseconds limit,
           std::vector<std::pair<esp::term, esp::term>> more = {}) {
  using esp::atom, esp::term;
  std::vector<std::pair<term, term>> all{
      {atom("nodes"), term::list(nodes)},
      {atom("edges"), term::list(edges)},
      {atom("window"), term::integer(1'000)},
      {atom("name"), atom("undefined")},
      {atom("max_queue"), term::integer(10'000)},
      {atom("max_queue_bytes"), term::integer(64 << 20)},
      {atom("receiver"), atom("none")}};
  for (auto& [key, value] : more) {
    std::erase_if(all, [&](const auto& p) { return p.first == key; });
    all.emplace_back(std::move(key), std::move(value));
  }
  const term spec = term::map(all);
  return answer(
      [&](const term& tag) {
        esp::send(atom("erlangsp"),
                  term::tuple({atom("$gen_call"),
                               term::tuple({esp::self(), tag}),
                               term::tuple({atom("start"), spec})}));
      },
      limit);
}

} // namespace test
