// What seq_trace asks of a process: seq_trace.hpp.

#include "node/node.hpp"
#include "node/process.hpp"

#include <algorithm>
#include <mutex>

namespace esp::node {

envelope_ptr envelope_of(std::optional<term> call,
                         std::optional<seq_token> token) {
  if (!call && !token)
    return nullptr;
  auto* const e = new envelope;
  e->call = std::move(call);
  e->token = std::move(token);
  return e;
}

message_ptr process::answer_of(const term& m,
                               const std::optional<seq_token>& token) {
  auto answer = std::make_unique<message>(what::data, datum::of(term(m)));
  answer->env = envelope_of(std::nullopt, token);
  return answer;
}

void process::put_token(message& m, const seq_token& t) {
  m.env = envelope_of(m.env ? m.env->call : std::nullopt, t);
}

void process::set_token(const std::optional<seq_token>& t) {
  for (std::unique_ptr<seq_state> fresh;;
       fresh = std::make_unique<seq_state>()) {
    const auto x = more();
    if (!x->seq)
      x->seq = std::move(fresh);
    if (!x->seq)
      continue;
    x->seq->token = t;
    if (t)
      x->seq->clock = std::max(x->seq->clock, t->serial);
    return;
  }
}

term process::seq_trace_token() const {
  const std::lock_guard guard(lock_);
  return extra_ && extra_->seq && extra_->seq->token
             ? extra_->seq->token->to_term()
             : term();
}

envelope_ptr process::present_token() {
  if (!has_token())
    return nullptr;
  std::optional<seq_token> t;
  {
    const std::lock_guard guard(lock_);
    t = extra_->seq->token;
  }
  return envelope_of(std::nullopt, std::move(t));
}

std::optional<seq_token> process::live(const message& m) const {
  if (!m.env || !m.env->token
      || m.env->token->resets != home_.seq_trace().resets())
    return std::nullopt;
  return m.env->token;
}

void process::take_envelope(const message& m) {
  if (!m.env->token) {
    env_ = m.env;
    return;
  }
  const auto t = live(m);
  set_token(t);
  env_ = t ? m.env : envelope_of(m.env->call, std::nullopt);
  if (t)
    home_.seq_trace().tell(seq_token::receive, *t, pid(), as_sent(m));
}

void process::let_go_of_envelope() {
  if (env_->token)
    set_token(std::nullopt);
  env_.reset();
}

void process::take_token(const message& m) {
  const auto t = live(m);
  if (!t && !has_token())
    return;
  set_token(t);
  env_ = envelope_of(env_ ? env_->call : std::nullopt, t);
  if (t)
    home_.seq_trace().tell(seq_token::receive, *t, pid(), as_sent(m));
}

void process::inherit_token(const seq_token& t, const term& request) {
  set_token(t);
  env_ = envelope_of(std::nullopt, t);
  home_.seq_trace().tell(seq_token::receive, t, pid(), request);
}

// The request, its arguments and the reply are three messages to erts, the token
// that of the arguments.
std::optional<seq_token>
process::spawned_under(const seq_token& t, const dist::spawn_request& s) {
  static const atom request("spawn_request"), reply("spawn_reply"), ok("ok");
  seq_token before = t;
  before.serial = std::max<std::int64_t>(0, t.serial - 1);
  inherit_token(before, term::tuple({request, s.ref, s.from, s.leader,
                                     term::tuple({s.module, s.function,
                                                  term::integer(s.arity)}),
                                     s.options}));
  const auto answered
      = seq_send(s.from, term::tuple({reply, s.ref, ok, pid()}));
  inherit_token(t, s.args);
  return answered;
}

std::optional<seq_token> process::next_token() {
  if (!has_token())
    return std::nullopt;
  const esp::pid me = pid();
  const std::lock_guard guard(lock_);
  auto& seq = *extra_->seq;
  // A reset is for tokens in use, too.
  if (!seq.token || seq.token->resets != home_.seq_trace().resets())
    return std::nullopt;
  seq.token = seq.token->next(me, seq.clock);
  return seq.token;
}

std::optional<seq_token> process::seq_send(const term& to,
                                           const term& message) {
  auto t = next_token();
  if (t)
    home_.seq_trace().tell(seq_token::send, *t, to, message);
  return t;
}

bool process::seq_print(const term& info) {
  const auto t = next_token();
  if (t)
    home_.seq_trace().tell(seq_token::print, *t, term(), info);
  return t.has_value();
}

void process::send(const esp::pid& to, const term& message) {
  home_.send_message(pid(), to, message,
                     has_token() ? seq_send(to, message) : std::nullopt);
}

void process::send(atom to, atom at_node, const term& message) {
  home_.send_message(pid(), to, at_node, message,
                     has_token()
                         ? seq_send(term::tuple({to, at_node}), message)
                         : std::nullopt);
}

process::token_scope::token_scope(process& p, const envelope_ptr& of)
    : p_(p), token_(p.present_token()), env_(p.env_) {
  const bool is_under = of && of->token;
  if (!is_under && !token_)
    return;
  p_.set_token(is_under ? of->token : std::nullopt);
  p_.env_ = envelope_of(env_ ? env_->call : std::nullopt,
                        is_under ? of->token : std::nullopt);
}

process::token_scope::~token_scope() {
  if (p_.env_ == env_)
    return;
  p_.set_token(token_ ? token_->token : std::nullopt);
  p_.env_ = env_;
}

} // namespace esp::node
