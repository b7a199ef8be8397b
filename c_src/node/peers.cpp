#include "node/peers_table.hpp"

#include <algorithm>
#include <future>
#include <random>
#include <utility>

namespace esp::node {

namespace {

std::atomic<std::uint64_t> next_table{1};

// Signals other than messages are what links and monitors stand on: they are
// dropped much later.
constexpr std::size_t patience_with_control = 10;

// What a waiting signal costs beside its payload.
constexpr std::size_t signal_overhead = 64;

// The connection that this thread used last; saves it the table's lock.
struct last_used {
  std::uint64_t table = 0;
  atom node;
  connection_ptr connection;
};
thread_local last_used last;

std::string host_of(const std::string& node_name) {
  const auto at = node_name.find('@');
  return at == std::string::npos ? "" : node_name.substr(at + 1);
}

bool is_message(const dist::control& c) noexcept {
  return std::holds_alternative<dist::send>(c)
         || std::holds_alternative<dist::reg_send>(c);
}

} // namespace

std::unique_ptr<peers> make_peers(peer_options options, peer_events& events) {
  return std::make_unique<peers_table>(std::move(options), events);
}

peers_table::peers_table(peer_options options, peer_events& events)
    : options_(std::move(options)),
      events_(events),
      id_(next_table++),
      where_{epmd::default_endpoint(options_.epmd_address, options_.epmd_port),
             host_of(options_.node_name)},
      io_(std::make_shared<net::io>()) {}

peers_table::~peers_table() {
  stop();
}

// ---- Start and stop --------------------------------------------------------

result<void> peers_table::start() {
  const auto at = options_.node_name.find('@');
  if (at == 0 || at + 1 >= options_.node_name.size()
      || at == std::string::npos) {
    return {errc::badarg, "no node name: " + options_.node_name};
  }
  io_->start();
  auto started = open_listener();
  if (started && options_.use_epmd) {
    started = register_with_epmd();
  } else if (started) {
    // Never 0 to 3, which epmd gives out.
    creation_ = std::max<std::uint32_t>(std::random_device{}(), 4);
  }
  if (!started) {
    stop();
  }
  return started;
}

result<void> peers_table::open_listener() {
  net::listen_options o{.addresses = options_.listen_addresses,
                        .port = options_.listen_port,
                        .only_own_machine = options_.listen_addresses.empty()};
  if (o.addresses.empty()) {
    o.addresses = {"127.0.0.1"};
    // A host name that means nothing here leaves loopback, which is enough
    // for the nodes of this machine.
    const auto named = net::resolve_now(where_.own_host);
    for (const auto& a : named.value_or({})) {
      if (a != o.addresses.front()) {
        o.addresses.push_back(a);
      }
    }
  }
  result<void> opened;
  io_->run([&] {
    auto l = net::listener::open(
        *io_, std::move(o),
        [this](auto s, const auto& from) { on_accepted(std::move(s), from); });
    if (l) {
      listener_ = std::move(*l);
      port_ = listener_->port();
    } else {
      opened = l.error();
    }
  });
  return opened;
}

result<void> peers_table::register_with_epmd() {
  std::promise<result<std::uint32_t>> first;
  auto answer = first.get_future();
  io_->run([&] {
    const auto& n = options_.node_name;
    registration_ = epmd::registration::start(
        *io_,
        {where_.own_epmd, n.substr(0, n.find('@')), port_, options_.hidden},
        [&](auto r) {
          if (r) {
            creation_ = *r;
          }
          first.set_value(std::move(r));
        });
  });
  auto got = answer.get();
  if (got) {
    return {};
  }
  return got.error().code == errc::already
             ? esp::error{errc::already, "the node name " + options_.node_name
                                             + " is taken: " + got.error().what}
             : got.error();
}

void peers_table::stop() {
  {
    std::lock_guard lock{mutex_};
    if (std::exchange(is_stopped_, true)) {
      return;
    }
  }
  if (creation_ != 0 || listener_) {
    io_->run([this] { close_all(); });
  }
  io_->stop();
}

void peers_table::close_all() {
  listener_ = nullptr;
  registration_ = nullptr;
  for (auto& [s, from] : std::exchange(knocking_, {})) {
    s->cancel();
  }
  for (auto& [name, d] : dials_) {
    if (d.setup) {
      d.setup->cancel();
    }
  }
  dials_.clear();
  auto all = std::exchange(up_, {});
  for (auto& [name, c] : all) {
    c->flush(); // what was said last should still arrive
    c->drop("stopped");
  }
  std::lock_guard lock{mutex_};
  routes_.clear();
}

// ---- Sending ---------------------------------------------------------------

connection_ptr peers_table::up(atom node) const {
  if (last.table == id_ && last.node == node && last.connection->is_up()) {
    return last.connection;
  }
  connection_ptr c;
  {
    std::lock_guard lock{mutex_};
    if (auto at = routes_.find(node); at != routes_.end()) {
      c = at->second.up;
    }
  }
  if (!c || !c->is_up()) {
    return nullptr;
  }
  last = {id_, node, c};
  return c;
}

peer_ptr peers_table::find(atom node) const {
  return up(node);
}

std::vector<peer_ptr> peers_table::connected() const {
  std::vector<peer_ptr> all;
  std::lock_guard lock{mutex_};
  for (const auto& [node, r] : routes_) {
    if (r.up && r.up->is_up()) {
      all.push_back(r.up);
    }
  }
  return all;
}

void peers_table::send(atom node, const dist::control& c) {
  if (last.table == id_ && last.node == node && last.connection->is_up()) {
    return last.connection->send(c);
  }
  if (auto connection = up(node)) {
    return connection->send(c);
  }
  connection_ptr came_up;
  {
    std::lock_guard lock{mutex_};
    if (is_stopped_) {
      return;
    }
    auto& r = routes_[node];
    if (!r.up || !r.up->is_up()) {
      return wait_for_dial(r, node, c);
    }
    came_up = r.up;
  }
  came_up->send(c);
}

void peers_table::wait_for_dial(route& r, atom node, const dist::control& c) {
  const std::size_t times = is_message(c) ? 1 : patience_with_control;
  if (r.waiting.size() >= times * options_.max_waiting_signals
      || r.waiting_bytes >= times * options_.max_waiting_bytes) {
    log_.log(base::log_level::warning,
             "dropped a signal: too many wait for the connection to "
                 + std::string{node.name()});
    return;
  }
  r.waiting.push_back(c);
  r.waiting_bytes += signal_overhead + payload_size(c);
  ask_for_dial(r, node);
}

void peers_table::ask_for_dial(route& r, atom node) {
  if (!std::exchange(r.is_dialling, true)) {
    io_->post([this, node] { start_dial(node); });
  }
}

void peers_table::connect(atom node) {
  std::lock_guard lock{mutex_};
  if (is_stopped_) {
    return;
  }
  auto& r = routes_[node];
  if (!r.up || !r.up->is_up()) {
    ask_for_dial(r, node);
  }
}

void peers_table::flush() {
  if (has_unflushed()) {
    flush_unflushed();
  }
}

} // namespace esp::node
