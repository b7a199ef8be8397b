// The distribution handshake, version 6, in both roles, as a machine of bytes
// in, bytes and verdict out (protocol.md, section 1). It knows no socket, no
// clock and no random source: the owner feeds it what was read, sends what
// take_output() gives, keeps the time limit, and brings a random challenge.
//
//   initiator (dials)                    acceptor (was dialled)
//     name      'N' ------------------->
//               <------------------- 's'   status, as the owner answers
//     [status reply 's' -------------->]   only after `alive`
//               <------------------- 'N'   challenge
//     reply     'r' ------------------->
//               <------------------- 'a'   ack
//
// Until connected() nothing else of what came was looked at, and never more
// than one packet of `max_packet` bytes is kept.

#pragma once

#include "esp/error.hpp"

#include "dist/digest.hpp"
#include "dist/flags.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace esp::dist {

// The longest handshake packet we take, header not counted.
inline constexpr std::size_t max_handshake_packet = 1'100;

// The status words an acceptor can answer with.
enum class status {
  ok,
  ok_simultaneous, // we are dialling the same node, and drop our dial
  nok,             // we are dialling the same node, and our dial wins
  not_allowed,     // we do not want this node
  alive,           // we are connected to it already; does it want a new one?
};

// The simultaneous connect rule: what node `us` answers when `them` dials. Of
// two dials that cross, the one of the node with the greater name wins.
status decide(std::string_view us, std::string_view them, bool is_connected,
              bool is_dialling) noexcept;

struct handshake_options {
  std::string name;                          // ours, "esp@host"
  std::uint64_t flags = our_flags;           // what we offer
  std::uint64_t mandatory = dist::mandatory; // what the other side must
  std::uint32_t creation = 0;                // ours, from epmd; never 0
  std::uint32_t challenge = 0;               // random, new for each handshake
  // The cookie for a peer of this name. Called at most once, before the
  // digests are made.
  std::function<std::string(std::string_view peer)> cookie;
  std::size_t length_size = 2; // bytes of packet length; 4 on TLS
  std::size_t max_packet = max_handshake_packet;
};

class handshake {
public:
  enum class state {
    reading,   // feed() more
    asking,    // acceptor: peer_name() dials; answer() is wanted
    alive,     // initiator: the other side thinks us connected already;
               // replace() or give up is wanted
    connected, // both sides proved that they know the cookie
    failed,    // send what take_output() has, then close; error() says why
  };

  // Dials `peer`: its first packet is in take_output() at once.
  static handshake initiate(handshake_options options, std::string peer);
  static handshake accept(handshake_options options);

  // Takes what came and goes as far as it can. Bytes that come while an
  // answer is wanted are kept; those behind the last packet are leftover().
  state feed(std::span<const std::byte> bytes);

  // Acceptor, in state asking: what decide(), or a policy, says. After
  // `alive` the machine waits for the other side's "true".
  state answer(status s);
  // The same for a peer that has no name yet (wants_name()): gives it one.
  // status::not_allowed refuses it.
  state answer_named(std::string_view name, std::uint32_t creation);
  // Initiator, in state alive: true replaces the old connection.
  state replace(bool yes);

  state current() const noexcept { return state_; }
  // What is to be sent, once.
  std::vector<std::byte> take_output();

  // As acceptor known from state asking on; until connected it is a claim.
  const std::string& peer_name() const noexcept { return peer_; }
  // Acceptor: the other side asks for a name; peer_name() is its host part.
  bool wants_name() const noexcept { return wants_name_; }
  // Acceptor, once connected: the other side confirmed that the connection we
  // had is to be dropped, with all its links and monitors. (OTP drops it when
  // "true" comes; waiting for the digest costs nothing, and a stranger who
  // does not know the cookie then cannot break a connection.)
  bool replaces_old() const noexcept { return replaces_old_; }

  // Once connected.
  std::uint64_t flags() const noexcept { return flags_; } // negotiated
  std::uint64_t peer_flags() const noexcept { return peer_flags_; }
  std::uint32_t peer_creation() const noexcept { return peer_creation_; }
  // Differ from the options only if those offered name_me.
  const std::string& our_name() const noexcept { return options_.name; }
  std::uint32_t our_creation() const noexcept { return options_.creation; }
  // The bytes behind the last packet are the first frames.
  std::vector<std::byte> take_leftover();

  // Once failed: `refused` if the other side or the owner said no or a cookie
  // is wrong, else `malformed`, `too_large` or `system_limit`.
  const esp::error& error() const noexcept { return error_; }

private:
  enum class step {
    name,            // acceptor waits for 'N'
    status,          // initiator waits for 's'
    status_reply,    // acceptor waits for "true" or "false"
    challenge,       // initiator waits for 'N'
    challenge_reply, // acceptor waits for 'r'
    challenge_ack,   // initiator waits for 'a'
    none,
  };

  handshake(handshake_options options, std::string peer, step first);

  void pump();
  void packet(std::span<const std::byte> body);
  void on_name(std::span<const std::byte> body);
  void on_status(std::span<const std::byte> body);
  void on_status_reply(std::span<const std::byte> body);
  void on_challenge(std::span<const std::byte> body);
  void on_challenge_reply(std::span<const std::byte> body);
  void on_challenge_ack(std::span<const std::byte> body);
  void on_named(std::span<const std::byte> body);

  bool take_flags(std::uint64_t theirs);
  void send_name();
  void send_status(std::string_view word);
  void send_challenge();
  void send(std::span<const std::byte> body);
  void fail(errc code, std::string what);

  handshake_options options_;
  std::string peer_;
  std::string cookie_;
  step step_;
  state state_ = state::reading;
  bool wants_name_ = false;
  bool replaces_old_ = false;
  std::uint64_t flags_ = 0;
  std::uint64_t peer_flags_ = 0;
  std::uint32_t peer_creation_ = 0;
  std::vector<std::byte> in_;
  std::vector<std::byte> out_;
  esp::error error_;
};

} // namespace esp::dist
