#include "base/bytes.hpp"
#include "dist/control.hpp"
#include "dist/frame.hpp"
#include "term/rewrite.hpp"
#include "term/tags.hpp"
#include "term/write.hpp"

#include <algorithm>
#include <limits>
#include <string_view>
#include <utility>

namespace esp::dist {

namespace {

using buffer = std::vector<std::byte>;
using bytes = std::span<const std::byte>;

constexpr std::uint64_t flag_priority = 1;
constexpr std::uint64_t flag_token = 2;
constexpr std::uint64_t flag_alias = 4;
constexpr std::uint64_t flag_name = 8;
constexpr std::uint64_t flag_exit = 16;

constexpr std::uint64_t both_monitor_flags =
    dflag::dist_monitor | dflag::dist_monitor_name;

// Writes the control term of one signal in the form that the peer's flags ask
// for. Gives the payload to send after it, if any; is_sent() is false if the
// peer has no form for this signal.
class head_writer {
public:
  head_writer(buffer& out, std::uint64_t flags) : out_(out), flags_(flags) {}

  bool is_sent() const noexcept { return is_sent_; }
  const term* payload() const noexcept { return payload_; }

  void operator()(const link& s) { tuple(op::link, s.from, s.to); }

  void operator()(const unlink& s) {
    if (!has(dflag::unlink_id)) {
      tuple(op::unlink, s.from, s.to);
    } else if (s.id != 0) {
      tuple(op::unlink_id, s.id, s.from, s.to);
    } else {
      is_sent_ = false; // a 26 drops the connection over op 4 and over id 0
    }
  }

  void operator()(const unlink_ack& s) {
    if (has(dflag::unlink_id)) {
      tuple(op::unlink_id_ack, s.id, s.from, s.to);
    } else {
      is_sent_ = false;
    }
  }

  void operator()(const exit& s) {
    auto token = sendable(s.token);
    if (!has(dflag::exit_payload)) {
      token ? tuple(op::exit_tt, s.from, s.to, *token, s.reason)
            : tuple(op::exit, s.from, s.to, s.reason);
      return;
    }
    tuple_tt(op::payload_exit, op::payload_exit_tt, token, s.from, s.to);
    with(s.reason);
  }

  void operator()(const exit2& s) {
    auto token = sendable(s.token);
    bool is_plain = std::holds_alternative<std::monostate>(s.instead);
    if (has(dflag::altact_sig) && (s.priority || !is_plain)) {
      auto flags = flag_exit | (s.priority ? flag_priority : 0);
      if (auto* alias = std::get_if<ref>(&s.instead)) {
        altact(flags | flag_alias, s.from, *alias, token);
      } else if (auto* name = std::get_if<atom>(&s.instead)) {
        altact(flags | flag_name, s.from, *name, token);
      } else {
        altact(flags, s.from, s.to, token);
      }
      with(s.reason);
    } else if (!is_plain) {
      is_sent_ = false;
    } else if (has(dflag::exit_payload)) {
      tuple_tt(op::payload_exit2, op::payload_exit2_tt, token, s.from, s.to);
      with(s.reason);
    } else {
      token ? tuple(op::exit2_tt, s.from, s.to, *token, s.reason)
            : tuple(op::exit2, s.from, s.to, s.reason);
    }
  }

  void operator()(const send& s) {
    auto token = sendable(s.token);
    auto priority = s.priority ? flag_priority : 0;
    auto* alias = std::get_if<ref>(&s.to);
    bool has_altact = has(dflag::altact_sig) && s.from;
    if (alias != nullptr) {
      if (has_altact) {
        altact(flag_alias | priority, *s.from, *alias, token);
      } else if (has(dflag::alias) && s.from) {
        tuple_tt(op::alias_send, op::alias_send_tt, token, *s.from, *alias);
      } else {
        is_sent_ = false;
      }
    } else if (auto& to = std::get<pid>(s.to); s.priority && has_altact) {
      altact(flag_priority, *s.from, to, token);
    } else if (s.from && has(dflag::send_sender)) {
      tuple_tt(op::send_sender, op::send_sender_tt, token, *s.from, to);
    } else {
      tuple_tt(op::send, op::send_tt, token, atom{}, to);
    }
    with(s.message);
  }

  void operator()(const reg_send& s) {
    auto token = sendable(s.token);
    if (s.priority && has(dflag::altact_sig)) {
      altact(flag_name | flag_priority, s.from, s.to, token);
    } else {
      tuple_tt(op::reg_send, op::reg_send_tt, token, s.from, atom{}, s.to);
    }
    with(s.message);
  }

  void operator()(const group_leader& s) {
    tuple(op::group_leader, s.leader, s.to);
  }

  // Without both flags OTP sends none of the monitor signals either.
  void operator()(const monitor& s) {
    is_sent_ = has(both_monitor_flags);
    tuple(op::monitor_p, s.from, s.to, s.ref);
  }

  void operator()(const demonitor& s) {
    is_sent_ = has(both_monitor_flags);
    tuple(op::demonitor_p, s.from, s.to, s.ref);
  }

  void operator()(const monitor_exit& s) {
    is_sent_ = has(both_monitor_flags);
    if (has(dflag::exit_payload)) {
      tuple(op::payload_monitor_p_exit, s.from, s.to, s.ref);
      with(s.reason);
    } else {
      tuple(op::monitor_p_exit, s.from, s.to, s.ref, s.reason);
    }
  }

  void operator()(const spawn_request& s) {
    is_sent_ = has(dflag::spawn);
    tuple_tt(op::spawn_request, op::spawn_request_tt, sendable(s.token), s.ref,
             s.from, s.leader, mfa{s.module, s.function, s.arity}, s.options);
    with(s.args);
  }

  void operator()(const spawn_reply& s) {
    is_sent_ = has(dflag::spawn);
    std::uint64_t flags = (s.linked ? 1U : 0U) | (s.monitored ? 2U : 0U);
    tuple_tt(op::spawn_reply, op::spawn_reply_tt, sendable(s.token), s.ref,
             s.to, flags, s.result);
  }

private:
  struct mfa {
    atom module, function;
    std::uint32_t arity;
  };

  bool has(std::uint64_t flags) const noexcept {
    return (flags_ & flags) == flags;
  }

  template <class... Element>
  void tuple(op number, const Element&... elements) {
    etf::write_tuple_header(out_, 1 + sizeof...(elements));
    element(static_cast<std::uint64_t>(number));
    (element(elements), ...);
  }

  // The token, if there is one, is the last element, and the operation is
  // another one.
  template <class... Element>
  void tuple_tt(op without, op with_token, const trace_token& token,
                const Element&... elements) {
    token ? tuple(with_token, elements..., *token)
          : tuple(without, elements...);
  }

  template <class To>
  void altact(std::uint64_t flags, const pid& from, const To& to,
              const trace_token& token) {
    tuple_tt(op::altact_sig_send, op::altact_sig_send, token,
             flags | (token ? flag_token : 0), from, to);
  }

  void with(const term& payload) {
    if (has(dflag::v4_nc)) {
      payload_ = &payload;
    } else {
      narrowed_ = narrowed(payload);
      payload_ = &narrowed_;
    }
  }

  // As OTP writes it; libei turns to bignums at 28 bits.
  void element(std::uint64_t n) {
    constexpr std::uint64_t integer_end = std::uint64_t{1} << 31;
    if (n > 255 && n < integer_end) {
      base::writer w{out_};
      w.u8(etf::tag::integer);
      w.u32(static_cast<std::uint32_t>(n));
    } else {
      etf::write_unsigned(out_, n);
    }
  }
  void element(atom a) { etf::write_atom(out_, a.name()); }
  void element(const pid& p) {
    // A peer without V4_NC takes 15 bits of id and 13 of serial.
    if (!has(dflag::v4_nc) && (p.id >> 15 != 0 || p.serial >> 13 != 0)) {
      is_sent_ = false;
    }
    etf::write_pid(out_, p);
  }
  void element(const ref& r) {
    if (!has(dflag::v4_nc) && r.count > 3) {
      is_sent_ = false;
    }
    etf::write_ref(out_, r);
  }
  void element(const pid_or_name& p) {
    std::visit([this](const auto& x) { element(x); }, p);
  }
  void element(const mfa& f) {
    etf::write_tuple_header(out_, 3);
    element(f.module);
    element(f.function);
    element(std::uint64_t{f.arity});
  }
  void element(const term& t) {
    term as_sent = narrowed(t);
    base::writer{out_}.bytes(as_sent.bytes());
  }

  term narrowed(const term& t) {
    if (has(dflag::v4_nc)) {
      return t;
    }
    auto n = etf::narrow(t);
    if (!n) {
      is_sent_ = false;
      return {};
    }
    return *std::move(n);
  }

  // Labels other than small integers came with BIG_SEQTRACE_LABELS; towards
  // others OTP too leaves such a token out.
  trace_token sendable(const trace_token& token) const {
    if (!token || has(dflag::big_seqtrace_labels)) {
      return token;
    }
    if (token->arity() != 5) {
      return std::nullopt;
    }
    constexpr std::int64_t small_end = 1 << 27;
    auto label = token->element(1).as_integer();
    bool is_small = label && *label >= -small_end && *label < small_end;
    return is_small ? token : std::nullopt;
  }

  buffer& out_;
  std::uint64_t flags_;
  bool is_sent_ = true;
  const term* payload_ = nullptr; // the signal's own, or narrowed_
  term narrowed_;
};

// The 131 that each term has in a pass-through packet.
void append_magic(buffer& out, std::uint64_t flags) {
  if (!has_dist_header(flags)) {
    base::writer{out}.u8(etf::version_magic);
  }
}

std::size_t size_of(const term* payload) {
  return payload != nullptr ? payload->bytes().size() : 0;
}

bool is_cut(std::size_t size, std::uint64_t flags) {
  return size > fragment_size && (flags & dflag::fragments) != 0;
}

// A frame was begun at `start` and its head stands behind `head_at`: adds the
// payload and sets the length, or cuts it all into fragments.
bool finish(buffer& out, std::size_t start, std::size_t head_at,
            const term* payload, std::uint64_t flags,
            std::uint64_t& next_sequence) {
  std::size_t size = out.size() - head_at + size_of(payload);
  if (is_cut(size, flags)) {
    buffer head{out.begin() + static_cast<std::ptrdiff_t>(head_at), out.end()};
    out.resize(start);
    fragment_cut cut{next_sequence++, size};
    bytes behind = payload != nullptr ? payload->bytes() : bytes{};
    while (cut.append_next(out, head, behind)) {
    }
    return true;
  }
  if (payload != nullptr) {
    append_magic(out, flags);
    base::writer{out}.bytes(payload->bytes());
  }
  std::size_t length = out.size() - start - 4;
  if (length > std::numeric_limits<std::uint32_t>::max()) {
    out.resize(start);
    return false;
  }
  base::writer{out}.patch_u32(start, static_cast<std::uint32_t>(length));
  return true;
}

} // namespace

std::vector<std::byte> encode_control(const control& c, std::uint64_t flags) {
  buffer out;
  append_magic(out, flags);
  head_writer w{out, flags};
  std::visit(w, c);
  if (!w.is_sent()) {
    return {};
  }
  if (w.payload() != nullptr) {
    append_magic(out, flags);
    base::writer{out}.bytes(w.payload()->bytes());
  }
  return out;
}

bool append_frame(std::vector<std::byte>& out, const control& c,
                  std::uint64_t flags, std::uint64_t& next_sequence) {
  std::size_t start = out.size();
  append_signal_header(out, flags, 0);
  append_magic(out, flags);
  std::size_t head_at = out.size();
  head_writer w{out, flags};
  std::visit(w, c);
  if (!w.is_sent()) {
    out.resize(start);
    return false;
  }
  return finish(out, start, head_at, w.payload(), flags, next_sequence);
}

bool append_send(std::vector<std::byte>& out, const pid& from, const pid& to,
                 const term& message, std::uint64_t flags,
                 std::uint64_t& next_sequence) {
  constexpr auto expected = dflag::v4_nc | dflag::send_sender;
  if ((flags & expected) != expected) {
    // Old peers are rare: let the general way find the form they need.
    send s{.from = from, .to = to, .message = message, .token = {}};
    return append_frame(out, s, flags, next_sequence);
  }
  std::size_t start = out.size();
  append_signal_header(out, flags, 0);
  append_magic(out, flags);
  std::size_t head_at = out.size();
  etf::write_tuple_header(out, 3);
  etf::write_unsigned(out, static_cast<std::uint64_t>(op::send_sender));
  etf::write_pid(out, from);
  etf::write_pid(out, to);
  return finish(out, start, head_at, &message, flags, next_sequence);
}

std::optional<fragment_cutter> cut_frame(const control& c, std::uint64_t flags,
                                         std::uint64_t& next_sequence) {
  if ((flags & dflag::fragments) == 0) {
    return std::nullopt;
  }
  buffer head;
  head_writer w{head, flags};
  std::visit(w, c);
  if (!w.is_sent() || !is_cut(head.size() + size_of(w.payload()), flags)) {
    return std::nullopt;
  }
  return fragment_cutter{next_sequence++, std::move(head),
                         w.payload() != nullptr ? std::optional{*w.payload()}
                                                : std::nullopt};
}

} // namespace esp::dist
