// The process that makes one unit of a co-op's nodes in this home: when any of
// them ends, for whatever reason, it ends the others with that reason, waits
// until they are gone, and ends with it. Linked to the head and to the kill
// switch of the other home; what they end with, it ends with.
//
// With a restart limit it makes new nodes instead, as long as they do not end
// too often. A restart has three parts: the body falls, that is, every node is
// told to end, and the head sends it nothing more; when all are at rest, what
// waits in their lanes is taken, and their successors are made; these are wired
// as their predecessors were, and go on with that. Of a mixed co-op the VM's
// switch leads, and this one does its part when told (doc/messages.md).

#pragma once

#include "base/spinlock.hpp"
#include "coop/code_change.hpp"
#include "coop/member.hpp"

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

namespace esp::coop {

class builder;

// What a kill switch says of its co-op at the end.
struct co_op {
  member_ptr head;                // null: on the VM
  atom name;                      // '' if it has none
  std::optional<esp::pid> leader; // the VM's kill switch, which says it then
};

// Nodes that are made late (late.hpp) come to it while it runs, and go, if
// their end is an orderly one.
class kill_switch final : public otp::special_process {
public:
  kill_switch(node::node& home, std::uint64_t number,
              std::optional<restart_limit> limit,
              const plugin::task_table* tasks = nullptr)
      : special_process(home, number), tasks_(tasks), limit_(limit) {}
  ~kill_switch() override;

  // From the process that makes the co-op; some may have ended already.
  void adopt(std::vector<member_ptr> members);
  // The same on its own fiber.
  void take_care_of(std::vector<member_ptr> members);
  // From the process that makes the co-op and is done with the builder: nobody
  // else touches that from here on. What a {wire, ...} is about, or a body that
  // may be made again.
  void take_over(std::shared_ptr<builder> b);

  // A late node, which has not run yet. From any thread; false: the co-op is
  // gone.
  bool adopt(member_ptr late);
  void late_ended(std::uint64_t number, const term& reason,
                  bool is_orderly) noexcept;
  // The number of one more edge, unique in the co-op.
  std::uint32_t next_edge(late_kind k) noexcept;

  // From a member, on any thread, when its links would have fired.
  void member_ended(const term& reason);
  // ... if it keeps its lane: when that can be taken.
  void member_rests(bool is_given_up) noexcept;
  // ... of what it had in hand.
  void lost_datum(bool is_dead_lettered) noexcept;
  // From the builder: what a node that is at rest has.
  void count_delivered(std::uint64_t n) noexcept { delivered_ += n; }
  // From the head, which sends nothing more.
  void head_has_stopped();

  // The plugins that its nodes' tasks are of; null: none can change.
  const plugin::task_table* tasks() const noexcept { return tasks_; }
  // From a node, for code_change.
  void change_answered(std::uint64_t node, std::uint32_t order,
                       const std::optional<term>& refusal) noexcept;
  // Nodes of that plugin are about to be killed since they run an old image: if
  // others take their places, then of the current one, should it have their
  // tasks. From any thread.
  void purge(atom plugin) noexcept;
  // From a node that has changed by itself, to `to`: from any thread.
  void changed(const plugin::image_ptr& from, const plugin::image_ptr& to);

protected:
  void handle_request(node::message& m) override;
  void handle_data(node::message_ptr m) override;
  std::optional<std::pair<node::message_ptr, node::lane>>
  accept_own(term message) override;
  bool intercept_exit(const esp::pid& from, const term& reason,
                      bool by_link) override;
  void terminate(const term& reason) override { begin_end(reason); }
  void ended(const term& reason) override;

  otp::answer state() override;
  atom module() const override;
  std::string doing() const override { return "kill switch"; }

private:
  void left(const plugin::image_ptr& from, const plugin::image_ptr& to);
  friend class code_change;

  void begin_end(const term& reason);
  void check_gone();
  void report();

  void heard(const term& what, const term& reason);
  void take_in_late();
  void about_workers(const term& word, const std::optional<esp::pid>& who,
                     const term& what);
  void supply(const esp::pid& router, std::uint32_t edge);
  void request(const term& from, const term& what);

  // Changes of code:
  using images = std::vector<std::pair<plugin::image_ptr, plugin::image_ptr>>;
  void hear_change(const term& what);
  void take_current(atom plugin);
  void changes(const images& from_to);
  void change_is_over();
  void let_go(std::uint64_t generation);
  bool is_whole() const noexcept {
    return phase_ == phase::whole && of_ && !ending_;
  }
  std::uint64_t generation() const noexcept { return generation_; }
  const std::vector<std::pair<atom, atom>>& edges() const noexcept {
    return edges_;
  }

  // Restarts:
  void fell(const term& reason);
  void fall(const term& reason);
  void check_fallen();
  void rebuild();
  void hear(const term& what);
  void built();
  bool may_restart();
  losses take_losses() noexcept;

  enum class phase { whole, falling, fallen, rebuilding, wiring };

  std::vector<member_ptr> members_;
  // Whose links have not fired, and who are not at rest; before it has been
  // told of its members, those of them that have, below zero.
  std::int64_t alive_ = 0, in_task_ = 0;
  std::optional<term> ending_;       // the reason, once there is one
  std::shared_ptr<builder> builder_; // once it has been handed over
  std::unordered_map<std::uint64_t, member_ptr> late_; // by its number
  std::vector<std::pair<esp::pid, std::uint32_t>> early_orders_; // of workers
  std::uint64_t inside_late_ = 0; // data that ended with them
  std::atomic<std::uint32_t> worker_edges_{0}, started_edges_{0};

  const plugin::task_table* const tasks_;
  std::unique_ptr<code_change> change_;       // if there ever was one
  std::vector<std::pair<atom, atom>> edges_;  // between nodes of this home
  std::atomic<std::uint64_t> generation_{0};  // how many changes there were

  spinlock inbox_; // guards what is below
  // Values of an image may be under way in the co-op when no node runs it any
  // more: those in use, and those that were left, with the generation by then.
  // Members hold this process, so the images outlive what is in their lanes.
  std::vector<plugin::image_ptr> images_;
  std::vector<std::pair<std::uint64_t, plugin::image_ptr>> left_images_;
  std::vector<member_ptr> adopted_, late_adopted_;
  std::shared_ptr<builder> handed_over_;
  bool is_over_ = false;

  std::optional<co_op> of_; // what it is the end of
  const std::optional<restart_limit> limit_;
  std::deque<clock::time_point> restarts_; // within the period
  phase phase_ = phase::whole;
  std::optional<term> early_;          // an end before it had the builder
  term reason_;                        // of the fall
  bool head_runs_ = true;              // ... or is not here
  std::optional<term> fall_, rebuild_; // From, of requests under way
  std::atomic<std::uint64_t> lost_{0}, dead_lettered_{0};
  std::uint64_t delivered_ = 0;
};

} // namespace esp::coop
