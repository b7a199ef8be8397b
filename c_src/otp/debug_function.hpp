// A fun that sys:install/2,3 has put in: a closure can run nowhere but on the
// node that it came from, so it is called there, event by event and in order,
// while the process that is debugged goes on.

#pragma once

#include "node/node.hpp"

#include <atomic>
#include <memory>
#include <mutex>

namespace esp::otp {

class debug_function {
public:
  // Fun(State, Event, Name) is called on the node `at`; what it returns is the
  // next State. `id` is what sys:remove/2 names it by.
  debug_function(node::node& home, atom at, term id, term fun, term state,
                 bool has_own_id);
  // What it has not been called with yet is dropped.
  ~debug_function();
  debug_function(const debug_function&) = delete;
  debug_function& operator=(const debug_function&) = delete;

  const term& id() const noexcept { return id_; }
  // It has returned `done`, or failed, or its node is gone.
  bool is_done() const { return !runner_->is_alive(); }
  // One that is too slow misses events: 1,000 may wait for it.
  void event(const term& event, const term& name);
  term option() const; // {Id, {Fun, State}}, or {Fun, State} without an id

private:
  struct kept {
    mutable std::mutex mutex;
    term state;
  };
  const term id_, fun_;
  const bool has_own_id_;
  const std::shared_ptr<kept> kept_; // the runner may outlive this
  node::process_ptr runner_;
};

} // namespace esp::otp
