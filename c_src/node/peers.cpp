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

// Dials that gave way to one of theirs which then failed.
constexpr int most_attempts = 3;

// What a waiting signal costs beside its payload.
constexpr std::size_t signal_overhead = 64;

// The connection that this thread used last; saves it the table's lock.
struct last_used {
  std::uint64_t table = 0;
  atom node;
  connection_ptr connection;
};
thread_local last_used last;

std::uint32_t random_word() {
  return std::random_device{}();
}

std::string host_of(const std::string& node_name) {
  const auto at = node_name.find('@');
  return at == std::string::npos ? "" : node_name.substr(at + 1);
}

bool is_message(const dist::control& c) noexcept {
  return std::holds_alternative<dist::send>(c)
         || std::holds_alternative<dist::reg_send>(c);
}

std::string quoted(const std::string& claimed) {
  return claimed.empty() ? "somebody" : "\"" + claimed + "\"";
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
    creation_ = std::max<std::uint32_t>(random_word(), 4);
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

// ---- Dialling --------------------------------------------------------------

void peers_table::start_dial(atom node) {
  const std::string name{node.name()};
  if (auto at = up_.find(name); at != up_.end()) {
    return send_waiting(node, at->second); // came to us meanwhile
  }
  auto [at, is_new] = dials_.try_emplace(name, *io_);
  if (!is_new) {
    return;
  }
  at->second.node = node;
  dial_now(at->second);
}

void peers_table::dial_now(dial& d) {
  const std::string name{d.node.name()};
  d.patience.cancel();
  if (!options_.use_epmd || host_of(name).empty()
      || name == options_.node_name) {
    return dial_failed(name, "no way to find " + name);
  }
  if (up_.size() >= options_.max_connections) {
    return dial_failed(name, "too many connections");
  }
  if (++d.attempts > most_attempts) {
    return dial_failed(name, "its own dials to us fail");
  }
  d.setup = peer_setup::dial(*io_, *this, where_, name, handshake_options(),
                             options_.net_setuptime);
}

// Their dial to us is under way and wins; what we have to say waits for it.
void peers_table::wait_for_theirs(dial& d) {
  d.setup = nullptr;
  d.patience.after(options_.net_setuptime,
                   [this, name = std::string{d.node.name()}] {
                     dial_failed(name, name + " wanted to dial and did not");
                   });
}

void peers_table::dial_failed(const std::string& name, const std::string& why) {
  auto at = dials_.find(name);
  if (at == dials_.end()) {
    return;
  }
  const atom node = at->second.node;
  dials_.erase(at);
  route lost;
  {
    std::lock_guard lock{mutex_};
    if (auto r = routes_.find(node); r != routes_.end()) {
      lost = std::move(r->second);
      routes_.erase(r);
    }
  }
  base::log(base::log_level::info, "cannot connect to " + name + ": " + why);
  events_.on_unreachable(node, why);
}

// ---- Being dialled ---------------------------------------------------------

void peers_table::on_accepted(net::stream_ptr s, const std::string& from) {
  if (creation_ == 0) {
    return; // not registered yet: nobody can know of us
  }
  if (knocking_.size() >= options_.max_pending_handshakes) {
    return log_.log(base::log_level::warning,
                    "refused a connection from " + from
                        + ": too many handshakes pending");
  }
  knocking_.emplace(peer_setup::accept(*io_, *this, std::move(s),
                                       handshake_options(),
                                       options_.net_setuptime),
                    from);
}

dist::status peers_table::on_asking(const std::string& name) {
  const bool is_connected = up_.contains(name);
  if (!is_connected && up_.size() >= options_.max_connections) {
    return dist::status::not_allowed;
  }
  auto d = dials_.find(name);
  const bool is_dialling = d != dials_.end() && d->second.setup;
  const auto answer =
      dist::decide(options_.node_name, name, is_connected, is_dialling);
  if (answer == dist::status::ok_simultaneous) {
    d->second.setup->cancel();
    wait_for_theirs(d->second);
  }
  return answer;
}

std::pair<std::string, std::uint32_t>
peers_table::on_wants_name(const std::string& host) {
  static constexpr std::string_view digits =
      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  std::random_device random;
  std::uniform_int_distribution<std::size_t> digit{0, digits.size() - 1};
  std::string name;
  do {
    name.clear();
    for (int n = 0; n < 13; ++n) {
      name += digits[digit(random)];
    }
    name += '@' + host;
  } while (up_.contains(name));
  return {name, std::max<std::uint32_t>(random_word(), 4)};
}

void peers_table::on_failed(const setup_ptr& s, const esp::error& why) {
  const std::string name = s->peer_name();
  auto d = dials_.find(name);
  if (s->is_dial()) {
    if (d != dials_.end() && d->second.setup == s) {
      if (s->lost_to_their_dial()) {
        wait_for_theirs(d->second);
      } else {
        dial_failed(name, why.what);
      }
    }
    return;
  }
  auto from = knocking_.extract(s);
  // Losing to our own dial is no offence.
  if (!from.empty() && !why.what.starts_with("answered nok")) {
    log_.log(base::log_level::warning, "refused a connection from "
                                           + from.mapped() + " by "
                                           + quoted(name) + ": " + why.what);
  }
  // Whoever it was said that it dials us, and we gave our own dial up.
  if (d != dials_.end() && !d->second.setup) {
    dial_now(d->second);
  }
}

// ---- Connections -----------------------------------------------------------

void peers_table::on_connected(const setup_ptr& s) {
  const std::string name = s->peer_name();
  auto stream = s->take_stream();
  auto from = knocking_.extract(s);
  auto old = up_.find(name);
  if (old != up_.end()) {
    if (!s->handshake().replaces_old()) {
      stream->close(); // two dials of theirs; the first one stands
      return;
    }
    auto c = old->second;
    c->drop("replaced by a new connection");
  } else if (up_.size() >= options_.max_connections) {
    stream->close();
    return log_.log(base::log_level::warning, "too many connections");
  }
  auto node = atom::intern(name);
  if (!node) {
    stream->close();
    return log_.log(base::log_level::error, name + ": " + node.error().what);
  }
  if (auto d = dials_.find(name); d != dials_.end()) {
    if (d->second.setup) {
      d->second.setup->cancel();
    }
    dials_.erase(d);
  }
  bring_up(*node, *s, std::move(stream));
}

void peers_table::bring_up(atom node, peer_setup& s, net::stream_ptr stream) {
  auto& h = s.handshake();
  auto c = std::make_shared<peer_connection>(
      io_, peer_connection::identity{node, h.flags(), h.peer_creation()},
      options_, events_,
      [this](const auto& lost, const auto& why) { on_lost(lost, why); });
  c->open(std::move(stream));
  up_.emplace(node.name(), c);
  send_waiting(node, c);
  events_.on_up(c);
  if (c->is_up()) {
    c->start(h.take_leftover());
  }
}

// Only then do other threads see the connection: what they sent before goes
// first.
void peers_table::send_waiting(atom node, const connection_ptr& c) {
  for (;;) {
    std::deque<dist::control> waiting;
    {
      std::lock_guard lock{mutex_};
      auto& r = routes_[node];
      if (r.waiting.empty()) {
        r.is_dialling = false;
        r.up = c;
        break;
      }
      waiting.swap(r.waiting);
      r.waiting_bytes = 0;
    }
    for (const auto& w : waiting) {
      c->send(w);
    }
  }
  flush();
}

void peers_table::on_lost(const connection_ptr& c, const std::string& why) {
  const std::string name{c->name().name()};
  if (auto at = up_.find(name); at != up_.end() && at->second == c) {
    up_.erase(at);
  }
  {
    std::lock_guard lock{mutex_};
    if (auto r = routes_.find(c->name());
        r != routes_.end() && r->second.up == c) {
      r->second.up = nullptr;
      if (!r->second.is_dialling) {
        routes_.erase(r);
      }
    }
  }
  events_.on_down(c, why);
}

dist::handshake_options peers_table::handshake_options() const {
  dist::handshake_options o;
  o.name = options_.node_name;
  if (!options_.hidden) {
    o.flags |= dist::dflag::published;
  }
  o.creation = creation_;
  o.challenge = random_word();
  o.cookie = [this](std::string_view peer) { return cookie_for(peer); };
  return o;
}

std::string peers_table::cookie_for(std::string_view peer) const {
  for (const auto& [name, cookie] : options_.cookies) {
    if (name == peer) {
      return cookie;
    }
  }
  return options_.cookie;
}

} // namespace esp::node
