// Control messages of the distribution protocol: every one as a value, parsed
// and built. Knows no socket and no process; protocol.md section 6 has the
// table, "Distribution Protocol" in the ERTS user's guide the original.

#pragma once

#include "esp/error.hpp"
#include "esp/term.hpp"

#include "dist/fragment.hpp"
#include "term/scan.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <variant>
#include <vector>

namespace esp::dist {

// Operation numbers, as the protocol names them.
enum class op : std::uint8_t {
  link = 1,
  send = 2,
  exit = 3,
  unlink = 4,
  reg_send = 6,
  group_leader = 7,
  exit2 = 8,
  send_tt = 12,
  exit_tt = 13,
  reg_send_tt = 16,
  exit2_tt = 18,
  monitor_p = 19,
  demonitor_p = 20,
  monitor_p_exit = 21,
  send_sender = 22,
  send_sender_tt = 23,
  payload_exit = 24,
  payload_exit_tt = 25,
  payload_exit2 = 26,
  payload_exit2_tt = 27,
  payload_monitor_p_exit = 28,
  spawn_request = 29,
  spawn_request_tt = 30,
  spawn_reply = 31,
  spawn_reply_tt = 32,
  alias_send = 33,
  alias_send_tt = 34,
  unlink_id = 35,
  unlink_id_ack = 36,
  altact_sig_send = 37,
};

using pid_or_name = std::variant<pid, atom>;
using trace_token =
    std::optional<term>; // {Flags, Label, Serial, From, LastCnt}

// One struct a signal, whichever of its forms was on the wire.
struct link {
  pid from, to;
};
struct unlink { // acknowledged if it carries an id; 0 is op 4
  std::uint64_t id = 0;
  pid from, to;
};
struct unlink_ack {
  std::uint64_t id = 0;
  pid from, to;
};
struct exit { // by link
  pid from, to;
  term reason;
  trace_token token;
};
struct exit2 { // by exit/2
  pid from, to;
  term reason;
  trace_token token;
  bool priority = false; // op 37
  // Op 37 also sends exits to an alias or a name; `to` then is not used.
  std::variant<std::monostate, ref, atom> instead = {};
};
struct send { // `from` is none for op 2
  std::optional<pid> from;
  std::variant<pid, ref> to; // a ref is an alias (op 33, 37)
  term message;
  trace_token token;
  bool priority = false; // op 37
};
struct reg_send {
  pid from;
  atom to;
  term message;
  trace_token token;
  bool priority = false; // op 37
};
struct group_leader {
  pid leader, to;
};
struct monitor {
  pid from;
  pid_or_name to;
  esp::ref ref;
};
struct demonitor {
  pid from;
  pid_or_name to;
  esp::ref ref;
};
struct monitor_exit {
  pid_or_name from; // as it was given in `monitor`
  pid to;
  esp::ref ref;
  term reason;
};
struct spawn_request {
  esp::ref ref;
  pid from, leader;
  atom module, function;
  std::uint32_t arity = 0;
  term options; // a proper list, checked
  term args;    // a proper list of `arity` elements, checked
  trace_token token;
};
struct spawn_reply {
  esp::ref ref;
  pid to;
  bool linked = false, monitored = false;
  std::variant<pid, atom> result; // the atom is the error
  trace_token token;
};

using control = std::variant<link, unlink, unlink_ack, exit, exit2, send,
                             reg_send, group_leader, monitor, demonitor,
                             monitor_exit, spawn_request, spawn_reply>;

// Reads what follows the frame header: the control term and, where the
// operation has one, the payload. Everything that section 20 says drops a
// connection and that can be told from the message alone is `malformed`:
// unknown operation, wrong tuple size or element type, missing or surplus
// payload, unlink with id 0, spawn arguments that are no proper list of the
// arity. Accepts the forms for both negotiated and not yet negotiated flags.
// The terms of the result are copies: `body` may go once this returns.
//
// With dist_header framing the two terms follow each other bare; in a
// pass_through packet (112) each has its 131.
enum class framing : std::uint8_t { dist_header, pass_through };
result<control> decode_control(std::span<const std::byte> body,
                               framing kind = framing::dist_header,
                               const etf::limits& caps = {});

// Whether what must be the sender's own is: OTP closes the connection for a
// link, unlink, exit, monitor or spawn request in the name of a third node. A
// message may come from anybody. `peer` is the other end of the connection.
result<void> check_origin(const control& c, atom peer);

// The bytes that follow the frame header, in the form that a peer with these
// negotiated flags understands (protocol.md sections 2, 6, 19): without
// exit_payload ops 3, 8, 21; without unlink_id op 4 and no acknowledgement
// (then the result is empty: send nothing); without alias an alias send goes
// to... nobody and is empty too; without send_sender op 2; towards a peer
// without v4_nc narrow ports.
// With altact_sig aliases, priority and exits to an alias go as op 37; without
// it an exit to an alias is empty and priority is lost. Without fragments and
// atom cache each term has its 131, as a pass-through packet wants it.
std::vector<std::byte> encode_control(const control& c, std::uint64_t flags);

// The same as whole frames, headers included, appended to an output buffer:
// one frame, or a run of fragments where the peer takes them and the signal is
// larger than fragment_size. `next_sequence` counts the fragmented signals of
// one connection. False if this peer is to be sent nothing, or the signal is
// larger than a frame can be.
bool append_frame(std::vector<std::byte>& out, const control& c,
                  std::uint64_t flags, std::uint64_t& next_sequence);

// The same for the commonest signal, a message to a pid, without building a
// `control`.
bool append_send(std::vector<std::byte>& out, const pid& from, const pid& to,
                 const term& message, std::uint64_t flags,
                 std::uint64_t& next_sequence);

// A signal that is worth cutting while it is written (fragment.hpp), or none:
// it is small, or the peer takes no fragments, or nothing is to be sent. Then
// append_frame() it.
std::optional<fragment_cutter> cut_frame(const control& c, std::uint64_t flags,
                                         std::uint64_t& next_sequence);

} // namespace esp::dist
