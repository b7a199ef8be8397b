// The connections to other Erlang nodes: one peer for each, dialled on demand
// or accepted, and what they report to the node. See protocol.md sections 1,
// 4, 16, 18, 20.

#pragma once

#include "esp/error.hpp"
#include "esp/term.hpp"

#include "dist/control.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace esp::node {

// One connection, from handshake to loss. Thread safe; lives as long as
// somebody holds it, connected or not.
class peer {
public:
  virtual ~peer() = default;

  virtual atom name() const noexcept = 0;
  virtual std::uint64_t flags() const noexcept = 0;    // negotiated
  virtual std::uint32_t creation() const noexcept = 0; // of the other node
  virtual bool is_up() const noexcept = 0;

  // Queues one signal, after all that this thread queued before. What it
  // holds goes to the socket at the next flush(), or at once when much has
  // gathered. Never blocks. Silently dropped once the connection is lost.
  virtual void send(const dist::control& c) = 0;
  // Hands what is queued to the socket, without blocking; what the socket
  // does not take follows from the I/O thread.
  virtual void flush() = 0;

  // More than the high-water mark waits: senders of data should pause.
  virtual bool is_congested() const noexcept = 0;
  // Runs `resume` once, on the I/O thread, as soon as less than the low-water
  // mark waits or the connection is lost; at once if that is so already.
  virtual void on_drain(std::function<void()> resume) = 0;

  // Closes the connection, as OTP does on a protocol error.
  virtual void close(std::string why) = 0;

  struct counters {
    std::uint64_t bytes_in = 0, bytes_out = 0, signals_in = 0, signals_out = 0,
                  dropped_too_large = 0;
  };
  virtual counters count() const noexcept = 0;
};
using peer_ptr = std::shared_ptr<peer>;

// What the node hears of its connections, all on the I/O thread, for one peer
// in the order up, signal*, down. None may block or run users' code.
class peer_events {
public:
  virtual void on_up(const peer_ptr& p) = 0;
  virtual void on_signal(const peer_ptr& p, dist::control&& c) = 0;
  virtual void on_down(const peer_ptr& p, const std::string& why) = 0;
  // What one read from a socket brought has been reported: time to send what
  // it led to.
  virtual void on_batch_end() {}
  // A dial that failed: everything queued for `node` is lost.
  virtual void on_unreachable(atom node, const std::string& why) = 0;

protected:
  ~peer_events() = default;
};

struct peer_options {
  std::string node_name;                                    // "esp_a@host"
  std::string cookie;                                       // the default one
  std::vector<std::pair<std::string, std::string>> cookies; // by peer name
  bool hidden = true;
  std::uint16_t listen_port = 0; // 0: any
  std::vector<std::string>
      listen_addresses;        // empty: loopback and what the
                               // host part of node_name resolves to
  std::string epmd_address;    // empty: ERL_EPMD_ADDRESS or loopback
  std::uint16_t epmd_port = 0; // 0: ERL_EPMD_PORT or 4369
  bool use_epmd = true;

  std::chrono::milliseconds net_setuptime{7'000}; // the handshake, in all
  std::chrono::milliseconds net_ticktime{60'000}; // see kernel(6)
  std::size_t max_signal = 128u << 20;            // reassembled
  std::size_t max_fragment_sequences = 1'024;     // of one connection
  std::size_t max_depth = 10'000;
  std::size_t max_inflated = 64u << 20;
  std::size_t max_connections = 1'024;
  std::size_t max_pending_handshakes = 64;
  std::size_t high_water = 1u << 20, low_water = 256u << 10; // output, bytes
  std::size_t max_output = 1u << 30; // waiting for one peer; then it is lost
  // What waits for a dial; messages beyond it are dropped and counted in a
  // log line, other signals only beyond ten times as much.
  std::size_t max_waiting_bytes = 1u << 20, max_waiting_signals = 10'000;
};

class peers {
public:
  virtual ~peers() = default;

  // Listens, registers with epmd (again whenever epmd comes back, keeping
  // the creation of the first registration), and serves until stop().
  virtual result<void> start() = 0;
  // Closes everything; no event comes after it returned.
  virtual void stop() = 0;

  virtual std::uint32_t creation() const noexcept = 0; // after start()
  virtual std::uint16_t listen_port() const noexcept = 0;

  // The connection to `node`, if it is up.
  virtual peer_ptr find(atom node) const = 0;
  virtual std::vector<peer_ptr> connected() const = 0;

  // Sends to `node`, dialling it first if it is not connected; what waits for
  // the dial keeps its order and is bounded. on_unreachable() says if it
  // failed. Signals that must not dial (exits, acknowledgements) go through
  // find() and peer::send().
  virtual void send(atom node, const dist::control& c) = 0;
  virtual void connect(atom node) = 0;
  // Hands to the sockets what this thread has sent since the last call.
  virtual void flush() = 0;
};

// `events` must outlive the result. The I/O thread is the result's own.
std::unique_ptr<peers> make_peers(peer_options options, peer_events& events);

} // namespace esp::node
