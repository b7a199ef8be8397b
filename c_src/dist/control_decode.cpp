#include "dist/control.hpp"
#include "dist/elements.hpp"
#include "term/read.hpp"
#include "term/rewrite.hpp"
#include "term/scan.hpp"

#include <limits>
#include <string>
#include <utility>

namespace esp::dist {

namespace {

using bytes = std::span<const std::byte>;

// Flags of op 37.
constexpr std::uint64_t flag_priority = 1;
constexpr std::uint64_t flag_token = 2;
constexpr std::uint64_t flag_alias = 4;
constexpr std::uint64_t flag_name = 8;
constexpr std::uint64_t flag_exit = 16;

// Flags of a spawn reply.
constexpr std::uint64_t spawn_linked = 1;
constexpr std::uint64_t spawn_monitored = 2;
constexpr std::uint64_t spawn_flags_end = 1U << 27;

esp::error malformed(std::string what) {
  return {errc::malformed, std::move(what)};
}

// What an operation looks like: how many elements its tuple has, its number
// among them, and whether a payload follows.
struct shape {
  std::size_t arity = 0; // 0: no such operation
  bool has_payload = false;
};

shape shape_of(std::uint64_t number) noexcept {
  if (number > static_cast<std::uint64_t>(op::altact_sig_send)) {
    return {};
  }
  switch (static_cast<op>(number)) {
  case op::link:
  case op::unlink:
  case op::group_leader:
    return {3, false};
  case op::send:
  case op::send_sender:
  case op::alias_send:
  case op::payload_exit:
  case op::payload_exit2:
    return {3, true};
  case op::exit:
  case op::exit2:
  case op::monitor_p:
  case op::demonitor_p:
  case op::unlink_id:
  case op::unlink_id_ack:
    return {4, false};
  case op::reg_send:
  case op::send_tt:
  case op::send_sender_tt:
  case op::alias_send_tt:
  case op::payload_exit_tt:
  case op::payload_exit2_tt:
  case op::payload_monitor_p_exit:
  case op::altact_sig_send: // at least
    return {4, true};
  case op::exit_tt:
  case op::exit2_tt:
  case op::monitor_p_exit:
  case op::spawn_reply:
    return {5, false};
  case op::reg_send_tt:
    return {5, true};
  case op::spawn_request:
    return {6, true};
  case op::spawn_reply_tt:
    return {6, false};
  case op::spawn_request_tt:
    return {7, true};
  }
  return {};
}

// A part of a frame's body that is one whole term, and its measure.
struct part {
  bytes at;
  etf::scanned measure;
};

// A term of its own, so that a small one does not keep a large frame alive.
result<term> to_term(const part& p, const etf::limits& caps) {
  if (!p.measure.needs_rewrite) {
    return term::copy_of(p.at);
  }
  auto plain = etf::normalize(p.at);
  auto measured = etf::scan(plain, caps);
  if (!measured) {
    return measured.error();
  }
  return term::copy_of(plain);
}

class decoder {
public:
  decoder(elements in, const part& payload, const etf::limits& caps)
      : in_(std::move(in)), payload_(payload), caps_(caps) {}

  control read(op number);
  bool has_failed() const noexcept { return in_.has_failed(); }
  const esp::error& error() const noexcept { return in_.error(); }

private:
  template <class Exit>
  control read_exit(bool has_token, bool has_payload);
  control read_send(bool has_sender, bool is_alias, bool has_token);
  control read_reg_send(bool has_token);
  control read_monitor_exit(bool has_payload);
  control read_spawn_request(bool has_token);
  control read_spawn_reply(bool has_token);
  control read_altact();
  control read_unlink();

  term made(const part& p) {
    if (in_.has_failed()) {
      return {};
    }
    auto t = to_term(p, caps_);
    if (!t) {
      in_.fail(t.error());
      return {};
    }
    return *std::move(t);
  }
  term made(bytes at) {
    if (in_.has_failed()) {
      return {};
    }
    // Only its measure is wanted: it was accepted as part of the tuple.
    auto measured = etf::scan(at, caps_);
    if (!measured) {
      in_.fail(measured.error());
      return {};
    }
    return made(part{at, *measured});
  }
  term take_term() { return made(in_.take_any()); }
  term payload() { return made(payload_); }
  trace_token token(bool is_there) {
    return is_there ? trace_token{take_term()} : std::nullopt;
  }

  elements in_;
  part payload_;
  etf::limits caps_;
};

control decoder::read(op number) {
  switch (number) {
  case op::link: {
    pid from = in_.take_pid();
    return link{.from = from, .to = in_.take_pid()};
  }
  case op::unlink: {
    pid from = in_.take_pid();
    return unlink{.id = 0, .from = from, .to = in_.take_pid()};
  }
  case op::unlink_id:
    return read_unlink();
  case op::unlink_id_ack: {
    auto id = in_.take_unsigned();
    pid from = in_.take_pid();
    return unlink_ack{.id = id, .from = from, .to = in_.take_pid()};
  }
  case op::exit:
    return read_exit<exit>(false, false);
  case op::exit_tt:
    return read_exit<exit>(true, false);
  case op::payload_exit:
    return read_exit<exit>(false, true);
  case op::payload_exit_tt:
    return read_exit<exit>(true, true);
  case op::exit2:
    return read_exit<exit2>(false, false);
  case op::exit2_tt:
    return read_exit<exit2>(true, false);
  case op::payload_exit2:
    return read_exit<exit2>(false, true);
  case op::payload_exit2_tt:
    return read_exit<exit2>(true, true);
  case op::send:
    return read_send(false, false, false);
  case op::send_tt:
    return read_send(false, false, true);
  case op::send_sender:
    return read_send(true, false, false);
  case op::send_sender_tt:
    return read_send(true, false, true);
  case op::alias_send:
    return read_send(true, true, false);
  case op::alias_send_tt:
    return read_send(true, true, true);
  case op::reg_send:
    return read_reg_send(false);
  case op::reg_send_tt:
    return read_reg_send(true);
  case op::group_leader: {
    pid leader = in_.take_pid();
    return group_leader{.leader = leader, .to = in_.take_pid()};
  }
  case op::monitor_p: {
    pid from = in_.take_pid();
    auto to = in_.take_pid_or_name();
    return monitor{.from = from, .to = to, .ref = in_.take_ref()};
  }
  case op::demonitor_p: {
    pid from = in_.take_pid();
    auto to = in_.take_pid_or_name();
    return demonitor{.from = from, .to = to, .ref = in_.take_ref()};
  }
  case op::monitor_p_exit:
    return read_monitor_exit(false);
  case op::payload_monitor_p_exit:
    return read_monitor_exit(true);
  case op::spawn_request:
    return read_spawn_request(false);
  case op::spawn_request_tt:
    return read_spawn_request(true);
  case op::spawn_reply:
    return read_spawn_reply(false);
  case op::spawn_reply_tt:
    return read_spawn_reply(true);
  case op::altact_sig_send:
    return read_altact();
  }
  in_.fail("a known operation"); // shape_of() knows the same ones
  return link{};
}

// {Op, From, To [, Token] [, Reason]}: the one place where the token is not
// the last element.
template <class Exit>
control decoder::read_exit(bool has_token, bool has_payload) {
  Exit e;
  e.from = in_.take_pid();
  e.to = in_.take_pid();
  e.token = token(has_token);
  e.reason = has_payload ? payload() : take_term();
  return e;
}

// {Op, From | '', To [, Token]}
control decoder::read_send(bool has_sender, bool is_alias, bool has_token) {
  send s;
  if (has_sender) {
    s.from = in_.take_pid();
  } else {
    (void)in_.take_atom(); // once the cookie; '' since R9
  }
  if (is_alias) {
    s.to = in_.take_ref();
  } else {
    s.to = in_.take_pid();
  }
  s.token = token(has_token);
  s.message = payload();
  return s;
}

// {Op, From, '', Name [, Token]}
control decoder::read_reg_send(bool has_token) {
  reg_send s;
  s.from = in_.take_pid();
  (void)in_.take_atom(); // as above
  s.to = in_.take_atom();
  s.token = token(has_token);
  s.message = payload();
  return s;
}

control decoder::read_monitor_exit(bool has_payload) {
  monitor_exit m;
  m.from = in_.take_pid_or_name();
  m.to = in_.take_pid();
  m.ref = in_.take_ref();
  m.reason = has_payload ? payload() : take_term();
  return m;
}

control decoder::read_unlink() {
  unlink u;
  u.id = in_.take_unsigned();
  if (u.id == 0) {
    in_.fail("an unlink id that is not 0");
  }
  u.from = in_.take_pid();
  u.to = in_.take_pid();
  return u;
}

// {Op, Ref, From, Leader, {M, F, Arity}, Opts [, Token]}, payload Args
control decoder::read_spawn_request(bool has_token) {
  spawn_request s;
  s.ref = in_.take_ref();
  s.from = in_.take_pid();
  s.leader = in_.take_pid();
  in_.enter_tuple(3);
  s.module = in_.take_atom();
  s.function = in_.take_atom();
  auto arity = in_.take_unsigned();
  auto options = in_.take_any();
  if (in_.has_failed()) {
    return s;
  }
  if (!proper_length(options.data())) {
    in_.fail("a proper list of spawn options");
  } else if (arity > std::numeric_limits<std::uint32_t>::max()
             || proper_length(payload_.at.data()) != arity) {
    in_.fail("a proper list of " + std::to_string(arity) + " arguments");
  } else {
    s.arity = static_cast<std::uint32_t>(arity);
    s.options = made(options);
    s.token = token(has_token);
    s.args = payload();
  }
  return s;
}

// {Op, Ref, To, Flags, Pid | Error [, Token]}
control decoder::read_spawn_reply(bool has_token) {
  spawn_reply s;
  s.ref = in_.take_ref();
  s.to = in_.take_pid();
  auto flags = in_.take_unsigned();
  if (flags >= spawn_flags_end) {
    in_.fail("flags of 27 bits");
  }
  s.linked = (flags & spawn_linked) != 0;
  s.monitored = (flags & spawn_monitored) != 0;
  s.result = in_.take_pid_or_name();
  s.token = token(has_token);
  return s;
}

// {Op, Flags, From, To [, Token] ...}. Later releases may set more flags, in
// an integer of any size, and add elements.
control decoder::read_altact() {
  bool is_exact = true;
  auto flags = in_.take_bits(is_exact);
  auto from = in_.take_pid();
  bool is_priority = (flags & flag_priority) != 0;
  bool has_token = (flags & flag_token) != 0;
  std::variant<pid, ref, atom> to;
  switch (flags & (flag_alias | flag_name)) {
  case 0:
    to = in_.take_pid();
    break;
  case flag_alias:
    to = in_.take_ref();
    break;
  case flag_name:
    to = in_.take_atom();
    break;
  default:
    in_.fail("an alias or a name, not both");
  }
  auto trace = token(has_token);
  auto content = payload();
  if ((flags & flag_exit) != 0) {
    exit2 e{.from = from, .to = {}, .reason = content, .token = trace};
    e.priority = is_priority;
    if (auto* p = std::get_if<pid>(&to)) {
      e.to = *p;
    } else if (auto* r = std::get_if<ref>(&to)) {
      e.instead = *r;
    } else {
      e.instead = std::get<atom>(to);
    }
    return e;
  }
  if (auto* name = std::get_if<atom>(&to)) {
    return reg_send{.from = from,
                    .to = *name,
                    .message = content,
                    .token = trace,
                    .priority = is_priority};
  }
  send s{.from = from, .to = {}, .message = content, .token = trace};
  s.priority = is_priority;
  if (auto* r = std::get_if<ref>(&to)) {
    s.to = *r;
  } else {
    s.to = std::get<pid>(to);
  }
  return s;
}

// Takes one measured term, with its 131 where there has to be one.
result<part> take_term(bytes& rest, framing kind, const etf::limits& caps,
                       std::string_view what) {
  if (kind == framing::pass_through) {
    if (rest.empty()
        || std::to_integer<std::uint8_t>(rest[0]) != etf::version_magic) {
      return malformed(std::string{what} + " without its 131");
    }
    rest = rest.subspan(1);
  }
  auto measured = etf::scan(rest, caps);
  if (!measured) {
    auto e = measured.error();
    // The frame is whole: nothing more will come.
    return error{e.code == errc::truncated ? errc::malformed : e.code,
                 std::string{what} + ": " + e.what};
  }
  part taken{rest.first(measured->size), *measured};
  rest = rest.subspan(measured->size);
  return taken;
}

} // namespace

result<control> decode_control(bytes body, framing kind,
                               const etf::limits& caps) {
  bytes rest = body;
  auto head = take_term(rest, kind, caps, "control message");
  if (!head) {
    return head.error();
  }
  etf::head tuple = etf::read(head->at.data());
  if (tuple.what != etf::form::tuple || tuple.count == 0) {
    return malformed("control message is no tuple");
  }
  elements in{tuple.next, static_cast<std::size_t>(tuple.count)};
  auto number = in.take_unsigned();
  auto [arity, has_payload] = shape_of(number);
  if (in.has_failed() || arity == 0) {
    return malformed("unknown control message");
  }
  auto named = [number](std::string_view what) {
    return "control message " + std::to_string(number) + std::string{what};
  };
  bool may_be_longer = static_cast<op>(number) == op::altact_sig_send;
  if (tuple.count != arity && !(may_be_longer && tuple.count > arity)) {
    return malformed(named(" of " + std::to_string(tuple.count) + " elements"));
  }
  if (has_payload == rest.empty()) {
    return malformed(
        named(has_payload ? " without payload" : " with bytes after it"));
  }
  part payload;
  if (has_payload) {
    auto taken = take_term(rest, kind, caps, "payload");
    if (!taken) {
      return taken.error();
    }
    payload = *taken;
    if (!rest.empty()) {
      return malformed(named(" with bytes after its payload"));
    }
  }
  decoder d{std::move(in), payload, caps};
  control c = d.read(static_cast<op>(number));
  if (d.has_failed()) {
    return error{d.error().code, named(": " + d.error().what)};
  }
  return c;
}

result<void> check_origin(const control& c, atom peer) {
  struct {
    atom peer;
    bool operator()(const link& s) { return s.from.node == peer; }
    bool operator()(const unlink& s) { return s.from.node == peer; }
    bool operator()(const unlink_ack& s) { return s.from.node == peer; }
    bool operator()(const exit& s) { return s.from.node == peer; }
    bool operator()(const exit2& s) { return s.from.node == peer; }
    bool operator()(const monitor& s) { return s.from.node == peer; }
    bool operator()(const demonitor& s) { return s.from.node == peer; }
    bool operator()(const spawn_request& s) {
      return s.from.node == peer && s.ref.node == peer;
    }
    bool operator()(const monitor_exit& s) {
      auto* p = std::get_if<pid>(&s.from);
      return p == nullptr || p->node == peer;
    }
    bool operator()(const spawn_reply& s) {
      auto* p = std::get_if<pid>(&s.result);
      return p == nullptr || p->node == peer;
    }
    bool operator()(const send&) { return true; }
    bool operator()(const reg_send&) { return true; }
    bool operator()(const group_leader&) { return true; }
  } is_own{peer};
  if (std::visit(is_own, c)) {
    return {};
  }
  return malformed("a signal in the name of a third node");
}

} // namespace esp::dist
