// Who traces what: the flags of processes, the patterns of functions, and the
// events that come of them.

#pragma once

#include "node/node.hpp"
#include "node/tracing.hpp"
#include "trace/session.hpp"

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace esp::trace {

class call_in_progress;

// Thread safe. Outlives the node.
class table final : public node::tracing {
public:
  table() : common_(std::make_shared<session>()) {}

  // The one that all share who have none of their own.
  const session_ptr& common() const noexcept { return common_; }

  // ---- What erlang:trace/3 and its kin do --------------------------------

  // Flags of one process on or off. False: another tracer has it. `t` may be
  // null to turn flags off whoever has it.
  bool set(const session_ptr& s, node::process& p, bool on, flags f,
           const tracer_ptr& t);
  // Of processes that are made from now on.
  void set_new(const session_ptr& s, bool on, flags f, const tracer_ptr& t);
  // The pattern of a function; none: it has none any more, if it is of that
  // kind.
  void set_pattern(const session_ptr& s, atom module, atom function,
                   bool is_local, const std::optional<call_pattern>& p);
  void set_messages(const session_ptr& s, bool is_send, message_pattern p);
  // Tracers by the pid or port that they are known by, until end(): nothing is
  // told to that one any more, in no session, and it is closed.
  void add(const tracer_ptr& t);
  tracer_ptr find(const term& name) const; // null: none
  void end(const tracer_ptr& t);
  // Sessions by the name that their users have for them, which end with their
  // tracers.
  void add(const term& name, const session_ptr& s);
  session_ptr find_session(const term& name) const;

  // Of processes: all flags that they have, and the tracer of common().
  struct state {
    flags all = 0;
    tracer_ptr tracer;
  };
  state state_of(std::uint64_t number) const;
  state state_of_new() const;
  std::optional<call_pattern> pattern_of(atom module, atom function) const;
  message_pattern messages(bool is_send) const;

  std::atomic<std::uint32_t>& control_word() noexcept { return control_word_; }

  // ---- node::tracing ------------------------------------------------------

  void made(node::process& p, const pid& maker) override;
  void sent(node::process& by, const term& message, const term& to,
            bool exists) override;
  void received(node::process& by, const term& message,
                const std::optional<pid>& from) override;
  void scheduled(node::process& p, bool in) override;
  void event(node::process& of, atom what, const term& about) override;
  void linked(node::process& from, const pid& to) override;
  void ended(node::process& p, const term& reason, atom name) override;
  std::unique_ptr<node::traced_call>
  called(node::process& by, atom module, atom function, std::size_t arity,
         const std::function<term()>& args) override;

private:
  friend class call_in_progress;
  struct entry {
    session_ptr of;
    tracer_ptr to;
    flags on = 0;
  };
  using entries = std::vector<entry>;

  // Those of that process that have any of `f`.
  entries with(const node::process& p, flags f) const;
  void tell(const node::process& p, const entry& e, std::string_view what,
            std::span<const term> more);
  void tell_all(const node::process& p, flags f, std::string_view what,
                std::initializer_list<term> more);
  void change(const session_ptr& s, std::uint64_t number, flags on, flags off);
  bool change_locked(const session_ptr& s, node::process& p, bool on, flags f,
                     const tracer_ptr& t); // under mutex_
  void inherit(node::process& from, node::process& to, flags always,
               flags first);
  void note(); // under mutex_: whether anything is on

  mutable std::mutex mutex_;
  const session_ptr common_;
  std::vector<std::weak_ptr<session>> sessions_; // that new processes belong to
  struct subject {
    node::process_ptr process;
    entries of;
  };
  std::unordered_map<std::uint64_t, subject> traced_; // by number
  std::unordered_map<term, tracer_ptr> tracers_;      // by name
  std::unordered_map<term, session_ptr> named_;
  std::atomic<std::uint32_t> control_word_{0};
};

} // namespace esp::trace
