#include "dist/handshake.hpp"

#include "base/bytes.hpp"
#include "term/atom_table.hpp"

#include <utility>

namespace esp::dist {

namespace {

using base::as_text;
using base::reader;
using base::writer;

// Not interned to find out: nobody has proved anything yet, and the table is
// finite.
bool is_atom_text(std::string_view text) {
  return !text.empty() && text.find('\0') == text.npos
         && etf::is_atom_text(text);
}

bool is_node_name(std::string_view name) {
  auto at = name.find('@');
  return at != std::string_view::npos && at > 0 && at + 1 < name.size()
         && name.find('@', at + 1) == name.npos && is_atom_text(name);
}

std::string quoted(std::string_view text) {
  constexpr std::size_t limit = 64;
  std::string out = "'";
  for (char c : text.substr(0, limit)) {
    out += c >= ' ' && c <= '~' ? c : '?';
  }
  return out + (text.size() > limit ? "...'" : "'");
}

std::string tag_text(std::span<const std::byte> body) {
  return body.empty() ? "an empty packet" : quoted(as_text(body.first(1)));
}

std::string_view word(status s) {
  switch (s) {
  case status::ok:
    return "ok";
  case status::ok_simultaneous:
    return "ok_simultaneous";
  case status::nok:
    return "nok";
  case status::not_allowed:
    return "not_allowed";
  case status::alive:
    return "alive";
  }
  return "not_allowed";
}

} // namespace

status decide(std::string_view us, std::string_view them, bool is_connected,
              bool is_dialling) noexcept {
  if (is_connected) {
    return status::alive;
  }
  if (!is_dialling) {
    return status::ok;
  }
  return them > us ? status::ok_simultaneous : status::nok;
}

handshake::handshake(handshake_options options, std::string peer, step first)
    : options_(std::move(options)), peer_(std::move(peer)), step_(first) {}

handshake handshake::initiate(handshake_options options, std::string peer) {
  handshake h{std::move(options), std::move(peer), step::status};
  h.send_name();
  return h;
}

handshake handshake::accept(handshake_options options) {
  return {std::move(options), {}, step::name};
}

handshake::state handshake::feed(std::span<const std::byte> bytes) {
  if (state_ != state::failed) {
    writer{in_}.bytes(bytes);
    pump();
  }
  // An honest peer waits for what we have to ask our owner about.
  if ((state_ == state::asking || state_ == state::alive)
      && in_.size() > options_.length_size + options_.max_packet) {
    fail(errc::too_large, quoted(peer_) + " talks on without an answer");
  }
  return state_;
}

// Takes packets off the input as long as nobody has to be asked. The length
// is judged before the body is awaited, so `in_` holds little more than one
// packet and what one read brought.
void handshake::pump() {
  while (state_ == state::reading && in_.size() >= options_.length_size) {
    reader header{in_};
    std::size_t length =
        options_.length_size == 4 ? header.u32() : header.u16();
    if (length > options_.max_packet) {
      return fail(errc::too_large,
                  "handshake packet of " + std::to_string(length) + " bytes");
    }
    if (header.left() < length) {
      return;
    }
    auto body = header.bytes(length);
    std::vector<std::byte> kept{body.begin(), body.end()};
    in_.erase(in_.begin(),
              in_.begin()
                  + static_cast<std::ptrdiff_t>(options_.length_size + length));
    packet(kept);
  }
}

void handshake::packet(std::span<const std::byte> body) {
  switch (step_) {
  case step::name:
    return on_name(body);
  case step::status:
    return on_status(body);
  case step::status_reply:
    return on_status_reply(body);
  case step::challenge:
    return on_challenge(body);
  case step::challenge_reply:
    return on_challenge_reply(body);
  case step::challenge_ack:
    return on_challenge_ack(body);
  case step::none:
    return;
  }
}

// 'N', Flags:64, Creation:32, NLen:16, Name; later releases may add to it.
void handshake::on_name(std::span<const std::byte> body) {
  reader in{body};
  auto tag = in.u8();
  if (tag == 'n') { // version 5, before OTP 23
    send_status(word(status::not_allowed));
    return fail(errc::refused, "the dialling node speaks only version 5 of "
                               "the handshake (before OTP 23)");
  }
  auto flags = in.u64();
  auto creation = in.u32();
  auto name = in.text(in.u16());
  if (tag != 'N' || !in.ok()) {
    return fail(errc::malformed,
                "expected a name packet, got " + tag_text(body));
  }
  peer_ = name;
  peer_creation_ = creation;
  wants_name_ = (flags & dflag::name_me) != 0;
  if (!take_flags(flags)) {
    send_status(word(status::not_allowed));
    return;
  }
  if (wants_name_ ? !is_atom_text(name) : !is_node_name(name)) {
    send_status(word(status::not_allowed));
    return fail(errc::malformed, "no node name: " + quoted(name));
  }
  if (peer_ == options_.name) {
    send_status(word(status::not_allowed));
    return fail(errc::refused, "the dialling node has our own name");
  }
  state_ = state::asking;
}

handshake::state handshake::answer(status s) {
  if (state_ != state::asking) {
    return state_;
  }
  if (wants_name_ && s != status::nok) {
    s = status::not_allowed; // nothing to call it by
  }
  send_status(word(s));
  switch (s) {
  case status::ok:
  case status::ok_simultaneous:
    state_ = state::reading;
    send_challenge();
    break;
  case status::alive:
    state_ = state::reading;
    step_ = step::status_reply;
    break;
  case status::nok:
  case status::not_allowed:
    fail(errc::refused,
         "answered " + std::string{word(s)} + " to " + quoted(peer_));
    break;
  }
  pump();
  return state_;
}

handshake::state handshake::answer_named(std::string_view name,
                                         std::uint32_t creation) {
  if (state_ != state::asking || !wants_name_ || !is_node_name(name)) {
    return answer(status::not_allowed);
  }
  peer_ = name;
  peer_creation_ = creation;
  std::vector<std::byte> body;
  writer w{body};
  w.text("snamed:");
  w.u16(static_cast<std::uint16_t>(name.size()));
  w.text(name);
  w.u32(creation);
  send(body);
  state_ = state::reading;
  send_challenge();
  pump();
  return state_;
}

void handshake::on_status(std::span<const std::byte> body) {
  reader in{body};
  if (in.u8() != 's') {
    return fail(errc::malformed, "expected a status, got " + tag_text(body));
  }
  auto rest = in.rest();
  auto text = as_text(rest);
  if (text == "ok" || text == "ok_simultaneous") {
    step_ = step::challenge;
  } else if (text == "alive") {
    state_ = state::alive;
  } else if (text.starts_with("named:")) {
    on_named(rest.subspan(6));
  } else if (text == "nok" || text == "not_allowed") {
    fail(errc::refused, quoted(peer_) + " answered " + std::string{text});
  } else {
    fail(errc::malformed, "unknown status " + quoted(text));
  }
}

// NLen:16, Name, Creation:32: what the acceptor calls us, if we asked.
void handshake::on_named(std::span<const std::byte> body) {
  reader in{body};
  auto name = in.text(in.u16());
  auto creation = in.u32();
  if ((options_.flags & dflag::name_me) == 0) {
    return fail(errc::malformed, "named " + quoted(name) + " without asking");
  }
  if (!in.ok() || !is_node_name(name)) {
    return fail(errc::malformed, "no node name: " + quoted(name));
  }
  options_.name = name;
  options_.creation = creation;
  step_ = step::challenge;
}

handshake::state handshake::replace(bool yes) {
  if (state_ != state::alive) {
    return state_;
  }
  send_status(yes ? "true" : "false");
  if (yes) {
    state_ = state::reading;
    step_ = step::challenge;
    pump();
  } else {
    fail(errc::refused, "kept the connection to " + quoted(peer_));
  }
  return state_;
}

void handshake::on_status_reply(std::span<const std::byte> body) {
  auto text = as_text(body);
  if (text == "strue") {
    replaces_old_ = true;
    return send_challenge();
  }
  if (text == "sfalse") {
    return fail(errc::refused, quoted(peer_) + " keeps the connection it has");
  }
  fail(errc::malformed, "expected true or false, got " + quoted(text));
}

// 'N', Flags:64, Challenge:32, Creation:32, NLen:16, Name.
void handshake::on_challenge(std::span<const std::byte> body) {
  reader in{body};
  auto tag = in.u8();
  auto flags = in.u64();
  auto challenge = in.u32();
  peer_creation_ = in.u32();
  auto name = in.text(in.u16());
  if (tag != 'N' || !in.ok()) {
    return fail(errc::malformed, "expected a challenge, got " + tag_text(body));
  }
  if (name != peer_) {
    return fail(errc::malformed,
                "dialled " + quoted(peer_) + ", got " + quoted(name));
  }
  if (!take_flags(flags)) {
    return;
  }
  cookie_ = options_.cookie(peer_);
  std::vector<std::byte> reply{std::byte{'r'}};
  writer w{reply};
  w.u32(options_.challenge);
  w.bytes(challenge_digest(cookie_, challenge));
  send(reply);
  step_ = step::challenge_ack;
}

void handshake::on_challenge_reply(std::span<const std::byte> body) {
  reader in{body};
  auto tag = in.u8();
  auto challenge = in.u32();
  auto proof = in.bytes(sizeof(digest));
  if (tag != 'r' || !in.ok()) {
    return fail(errc::malformed,
                "expected a challenge reply, got " + tag_text(body));
  }
  cookie_ = options_.cookie(peer_);
  auto wanted = challenge_digest(cookie_, options_.challenge);
  if (!is_same_digest(proof, wanted)) { // B closes without a word
    return fail(errc::refused, quoted(peer_) + " has another cookie");
  }
  std::vector<std::byte> ack{std::byte{'a'}};
  writer{ack}.bytes(challenge_digest(cookie_, challenge));
  send(ack);
  step_ = step::none;
  state_ = state::connected;
}

void handshake::on_challenge_ack(std::span<const std::byte> body) {
  reader in{body};
  auto tag = in.u8();
  auto proof = in.bytes(sizeof(digest));
  if (tag != 'a' || !in.ok()) {
    return fail(errc::malformed,
                "expected a challenge ack, got " + tag_text(body));
  }
  auto wanted = challenge_digest(cookie_, options_.challenge);
  if (!is_same_digest(proof, wanted)) {
    return fail(errc::refused, quoted(peer_) + " has another cookie");
  }
  step_ = step::none;
  state_ = state::connected;
}

bool handshake::take_flags(std::uint64_t theirs) {
  peer_flags_ = theirs;
  flags_ = negotiate(options_.flags, theirs) & ~dflag::name_me;
  auto missing = options_.mandatory & ~expand(theirs);
  if (missing == 0) {
    return true;
  }
  fail(errc::refused,
       quoted(peer_) + " lacks mandatory flags: " + flag_names(missing));
  return false;
}

void handshake::send_name() {
  std::string_view name = options_.name;
  if ((options_.flags & dflag::name_me) != 0) {
    name = name.substr(name.find('@') + 1); // only the host; all of a host
  }
  std::vector<std::byte> body{std::byte{'N'}};
  writer w{body};
  w.u64(options_.flags);
  w.u32(options_.creation);
  w.u16(static_cast<std::uint16_t>(name.size()));
  w.text(name);
  send(body);
}

void handshake::send_status(std::string_view text) {
  std::vector<std::byte> body{std::byte{'s'}};
  writer{body}.text(text);
  send(body);
}

void handshake::send_challenge() {
  std::vector<std::byte> body{std::byte{'N'}};
  writer w{body};
  // A node that asked for a name takes the one it got only if we offer the
  // flag as well: its dist_util looks at the flags of both.
  w.u64(options_.flags | (wants_name_ ? dflag::name_me : 0));
  w.u32(options_.challenge);
  w.u32(options_.creation);
  w.u16(static_cast<std::uint16_t>(options_.name.size()));
  w.text(options_.name);
  send(body);
  step_ = step::challenge_reply;
}

void handshake::send(std::span<const std::byte> body) {
  writer w{out_};
  if (options_.length_size == 4) {
    w.u32(static_cast<std::uint32_t>(body.size()));
  } else {
    w.u16(static_cast<std::uint16_t>(body.size()));
  }
  w.bytes(body);
}

void handshake::fail(errc code, std::string what) {
  state_ = state::failed;
  step_ = step::none;
  error_ = {code, std::move(what)};
  in_.clear();
  cookie_.clear();
}

std::vector<std::byte> handshake::take_output() {
  return std::exchange(out_, {});
}

std::vector<std::byte> handshake::take_leftover() {
  return state_ == state::connected ? std::exchange(in_, {})
                                    : std::vector<std::byte>{};
}

} // namespace esp::dist
