// The I/O thread's half of peers_table: dialling, being dialled, connections
// that come and go.

#include "node/peers_table.hpp"

#include <algorithm>
#include <random>
#include <utility>

namespace esp::node {

namespace {

// Dials that gave way to one of theirs which then failed.
constexpr int most_attempts = 3;

std::uint32_t random_word() {
  return std::random_device{}();
}

std::string quoted(const std::string& claimed) {
  return claimed.empty() ? "somebody" : "\"" + claimed + "\"";
}

} // namespace

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
  if (!options_.use_epmd || name.find('@') == std::string::npos
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
