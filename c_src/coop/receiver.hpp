// Where the results of a co-op go, as a node of its last tier sees it: that
// node's edge 0. A co-op gives credit as on any edge. A plain process cannot,
// so coop_meter on its VM looks at its queue and grants for it; where that does
// not run, results go out unmetered. A process that is {demand, Pid} asks the
// head, which grants what a node has said to have ready.
//
// A batch goes out when it is full, when the node has nothing more to do, when
// it must wait for credit, and before the mark of a flush.

#pragma once

#include "coop/edge.hpp"
#include "coop/spec.hpp"

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

namespace esp::coop {

class member;

// Of one member, whose fiber alone may call it.
class receiver {
public:
  receiver(member& node, facts_ptr of);

  // Asks for credit. Until somebody has answered there is none.
  void attach();
  bool has_credit() const noexcept { return edge_.has_credit(); }
  void take_credit(const returned_credit& c);
  // Who was to give credit is gone.
  void lose() noexcept;

  // Waits for credit; throws exit_signal.
  void deliver(datum&& d);
  // All results are on their way when this returns; throws exit_signal.
  void flush();
  // The member has nothing more to do.
  void pause();
  // The member ends: what has its credit goes out.
  void close();
  // Results that nobody will ask for, or that a member which was given up had
  // in a batch; without those of the datum that it has in hand, if it has.
  std::vector<term> left_behind(bool has_datum);
  // Of those that were asked for, by demand.
  std::uint64_t delivered() const noexcept {
    return state_ == state::demand ? edge_.sent : 0;
  }

  // {metered | unmetered | coop | demand | gone, Receiver}
  term info() const;

private:
  enum class state { metered, unmetered, coop, demand, gone };

  const receiver_spec& to() const noexcept { return of_->receiver; }
  bool is_pid() const noexcept {
    return to().what != receiver_spec::kind::name;
  }
  atom at() const noexcept { return is_pid() ? to().to.node : to().node; }
  term address() const;
  term tagged(term t) const;
  void open(state s) noexcept;
  void ask_meter();
  std::size_t keep(term result); // gives how many are ready
  // False if fewer are ready; else the head knows of all.
  bool announce(std::size_t least);
  void wait_until_below(std::size_t most);
  void send_ready(std::size_t most = std::numeric_limits<std::size_t>::max());
  void send(const term& message, std::size_t results);

  member& node_;
  const facts_ptr of_;
  const std::uint64_t half_; // of the window; what is asked for at a time
  state state_;
  out_edge edge_;
  // Each with the token that it was made under, if there was one.
  struct result_of {
    term value;
    node::envelope_ptr under;
  };
  std::vector<result_of> ready_; // in a batch, or not yet asked for
  std::size_t announced_ = 0; // of those, what the head knows of
  std::size_t of_datum_ = 0;  // ... and what is of one datum, which was the
  std::uint64_t datum_ = 0;   // member's so many-th
};

} // namespace esp::coop
