// peers, as make_peers() makes them: the listener, the registration, and who
// is connected, being dialled, or knocking.

#pragma once

#include "base/log.hpp"
#include "epmd/client.hpp"
#include "net/io.hpp"
#include "net/listener.hpp"
#include "net/timer.hpp"
#include "node/peer_connection.hpp"
#include "node/peer_setup.hpp"
#include "node/peers.hpp"

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace esp::node {

class peers_table final : public peers, private setup_owner {
public:
  peers_table(peer_options options, peer_events& events);
  ~peers_table() override;

  result<void> start() override;
  void stop() override;
  std::uint32_t creation() const noexcept override { return creation_; }
  std::uint16_t listen_port() const noexcept override { return port_; }
  peer_ptr find(atom node) const override;
  std::vector<peer_ptr> connected() const override;
  void send(atom node, const dist::control& c) override;
  void connect(atom node) override;
  void flush() override;

private:
  // What senders of any thread see of a node; there is one for as long as it
  // is connected or dialled.
  struct route {
    connection_ptr up;
    bool is_dialling = false;
    std::deque<dist::control> waiting;
    std::size_t waiting_bytes = 0;
  };
  struct dial {
    explicit dial(net::io& i) : patience(i) {}
    atom node;
    setup_ptr setup;     // none while we wait for theirs
    net::timer patience; // of that wait
    int attempts = 0;
  };

  // ---- setup_owner; all that follows is the I/O thread's
  dist::status on_asking(const std::string& name) override;
  std::pair<std::string, std::uint32_t>
  on_wants_name(const std::string& host) override;
  void on_connected(const setup_ptr& s) override;
  void on_failed(const setup_ptr& s, const esp::error& why) override;

  void on_accepted(net::stream_ptr s, const std::string& from);
  void start_dial(atom node);
  void dial_now(dial& d);
  void wait_for_theirs(dial& d);
  void dial_failed(const std::string& name, const std::string& why);
  void bring_up(atom node, peer_setup& s, net::stream_ptr stream);
  void send_waiting(atom node, const connection_ptr& c);
  void on_lost(const connection_ptr& c, const std::string& why);
  void close_all();

  result<void> open_listener();
  result<void> register_with_epmd();
  dist::handshake_options handshake_options() const;
  std::string cookie_for(std::string_view peer) const;

  // ---- any thread
  connection_ptr up(atom node) const;
  void wait_for_dial(route& r, atom node, const dist::control& c);
  void ask_for_dial(route& r, atom node); // with the lock held

  const peer_options options_;
  peer_events& events_;
  const std::uint64_t id_; // of this table, never used again
  const peer_setup::where where_;
  const net::io_ptr io_;
  std::atomic<std::uint32_t> creation_{0};
  std::atomic<std::uint16_t> port_{0};

  mutable std::mutex mutex_; // of the next two
  std::unordered_map<atom, route> routes_;
  bool is_stopped_ = false;

  // Of the I/O thread.
  std::unique_ptr<net::listener> listener_;
  std::unique_ptr<epmd::registration> registration_;
  std::unordered_map<std::string, connection_ptr> up_;
  std::unordered_map<std::string, dial> dials_;
  std::unordered_map<setup_ptr, std::string> knocking_; // and from where
  base::log_limiter log_;
};

} // namespace esp::node
