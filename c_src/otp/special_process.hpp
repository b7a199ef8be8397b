// A process with manners: it answers system messages and get_modules, in
// every state, and has a parent. What sys(3) calls a special process.

#pragma once

#include "base/spinlock.hpp"
#include "node/node.hpp"
#include "otp/debug.hpp"

#include <memory>
#include <mutex>
#include <optional>
#include <variant>
#include <vector>

namespace esp::otp {

// A value, or the Reason of an {error, Reason}.
struct refusal {
  term reason;
};
using answer = std::variant<term, refusal>;

class special_process : public node::process {
public:
  special_process(node::node& home, std::uint64_t number)
      : process(home, number) {}

  // Whose exit ends it whatever the reason. Set before it is linked to it.
  void set_parent(const esp::pid& p) {
    const std::lock_guard guard(parent_lock_);
    parent_ = p;
  }
  std::optional<esp::pid> parent() const {
    const std::lock_guard guard(parent_lock_);
    return parent_;
  }

protected:
  // ---- What a subclass says of itself -------------------------------------
  virtual answer state() = 0;                           // sys:get_state
  // The Type of {no_state_codec, Type}, which answers sys:replace_state before
  // any fun is run, if the state is only for show.
  virtual std::optional<term> fixed_state() const { return term(module()); }
  // Else: the state that it has then.
  virtual answer replace_state(const term&) { return state(); }
  virtual atom module() const = 0;
  virtual std::vector<atom> modules() const { return {module()}; }
  // More for sys:get_status: {Text, Term} pairs.
  virtual std::vector<std::pair<std::string, term>> status() { return {}; }

  // ---- What it does ---------------------------------------------------------
  // A message in the control lane that is none of sys's: a call of our own,
  // an exit, a DOWN.
  virtual void handle_request(node::message& m) = 0;
  // {change_code, Module, OldVsn, Extra}, while it is suspended: answers `from`
  // with ok or {error, Reason}, now or later. By default no image is new.
  virtual void change_code(const term& from, const term& request);
  // sys:terminate and the like; the default ends with that reason.
  virtual void terminate(const term& reason) { finish(reason); }
  // A term whose first element is '$coop'. None: dealt with on the spot.
  virtual std::optional<std::pair<node::message_ptr, node::lane>>
  accept_own(term message) = 0;

  std::optional<std::pair<node::message_ptr, node::lane>>
  accept(term message, const std::optional<esp::pid>& from) override;
  void handle_control(node::message& m) final;
  node::lane down_lane() const noexcept override {
    return node::lane::control;
  }

  // To be told of what goes in and out as long as somebody asks. One
  // predictable branch otherwise.
  bool is_debugged() const noexcept { return debug_ != nullptr; }
  void debug_in(const term& message);
  void debug_out(const term& message, const term& to);

  static std::pair<node::message_ptr, node::lane> control(term t);
  static std::pair<node::message_ptr, node::lane> data(term t);

private:
  void system_message(const term& from, const term& request);
  term debug_request(const term& request, const term& from);
  term install(const term& what, const term& from);
  term debug_name() const;
  term get_state(const term& from);
  term replace(const term& from, const term& fun);
  term get_status();
  void print(const std::string& text);

  mutable spinlock parent_lock_;
  std::optional<esp::pid> parent_;
  std::unique_ptr<debug> debug_;
};

} // namespace esp::otp
