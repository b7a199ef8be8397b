// A connection being set up, in either role: name to address, epmd, connect,
// handshake, with one time limit on all of it. Lives on the I/O thread.

#pragma once

#include "esp/error.hpp"

#include "dist/handshake.hpp"
#include "epmd/client.hpp"
#include "net/address.hpp"
#include "net/io.hpp"
#include "net/stream.hpp"
#include "net/timer.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace esp::node {

class peer_setup;
using setup_ptr = std::shared_ptr<peer_setup>;

// Who started it decides, and is told the end: exactly one of on_connected
// and on_failed, unless it was cancelled.
class setup_owner {
public:
  // A stranger who says he is `name` dials.
  virtual dist::status on_asking(const std::string& name) = 0;
  // A node of that host wants a name and a creation; "" refuses it.
  virtual std::pair<std::string, std::uint32_t>
  on_wants_name(const std::string& host) = 0;
  // take_stream() and handshake() have what there is to know.
  virtual void on_connected(const setup_ptr& s) = 0;
  virtual void on_failed(const setup_ptr& s, const esp::error& why) = 0;

protected:
  ~setup_owner() = default;
};

class peer_setup final : public net::stream::user,
                         public std::enable_shared_from_this<peer_setup> {
public:
  struct where {
    net::endpoint own_epmd;
    std::string own_host; // the host part of our own name
  };

  // `limit` is net_setuptime. The owner outlives the setup, or cancels it.
  static setup_ptr accept(net::io& i, setup_owner& owner, net::stream_ptr s,
                          dist::handshake_options options,
                          std::chrono::milliseconds limit);
  // `node` is a node name with an '@'.
  static setup_ptr dial(net::io& i, setup_owner& owner, const where& w,
                        const std::string& node,
                        dist::handshake_options options,
                        std::chrono::milliseconds limit);

  void cancel();

  bool is_dial() const noexcept { return is_dial_; }
  // Of an accepted one only a claim, and empty before it was made.
  const std::string& peer_name() const noexcept;
  // Once on_failed was called: the other side said `nok`, since it dials us
  // and its dial wins.
  bool lost_to_their_dial() const noexcept { return lost_to_their_dial_; }

  // In on_connected().
  dist::handshake& handshake() noexcept { return *handshake_; }
  net::stream_ptr take_stream();

  peer_setup(net::io& i, setup_owner& owner, bool is_dial);

private:
  // ---- net::stream::user
  std::span<std::byte> read_room() override { return room_; }
  void on_read(std::size_t count) override;
  void on_end(const std::string& why) override;

  void begin(std::chrono::milliseconds limit);
  void look_up(const where& w, const std::string& node,
               result<std::vector<std::string>> addresses);
  void connect(std::vector<std::string> addresses, std::uint16_t port);
  void step();
  void fail(const esp::error& why);

  net::io& io_;
  setup_owner* owner_; // none once the end was told
  const bool is_dial_;
  bool lost_to_their_dial_ = false;
  std::string dialled_;
  dist::handshake_options options_; // until the handshake has them
  std::optional<dist::handshake> handshake_;
  net::timer timer_;
  net::stream_ptr stream_;
  std::unique_ptr<epmd::lookup> lookup_;
  std::array<std::byte, dist::max_handshake_packet + 4> room_{};
};

} // namespace esp::node
