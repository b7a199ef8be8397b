// Where the results of a co-op go, as a node of its last tier sees it: that
// node's edge 0. A co-op gives credit as on any edge. A plain process cannot,
// so coop_meter on its VM looks at its queue and grants for it; where that does
// not run, results go out unmetered.

#pragma once

#include "coop/edge.hpp"
#include "coop/spec.hpp"

#include <cstdint>
#include <optional>

namespace esp::coop {

class member;

// Of one member, whose fiber alone may call it.
class receiver {
public:
  receiver(member& node, receiver_spec to, std::optional<term> tag,
           std::uint64_t window);

  // Asks for credit. Until somebody has answered there is none.
  void attach();
  bool has_credit() const noexcept { return edge_.has_credit(); }
  void take_credit(const returned_credit& c) noexcept;
  // Who was to give credit is gone.
  void lose() noexcept;

  // Waits for credit; throws exit_signal.
  void deliver(datum d);

  // {metered | unmetered | coop | gone, Receiver}
  term info() const;

private:
  enum class state { metered, unmetered, coop, gone };

  bool is_pid() const noexcept { return to_.what != receiver_spec::kind::name; }
  atom at() const noexcept { return is_pid() ? to_.to.node : to_.node; }
  term address() const;
  void open(state s) noexcept;
  void ask_meter();
  void send(const term& result);

  member& node_;
  const receiver_spec to_;
  const std::optional<term> tag_;
  const std::uint64_t half_; // of the window; what is asked for at a time
  state state_;
  out_edge edge_;
};

} // namespace esp::coop
