// What a head and a co-op node have in common: edges in and out with credit,
// a dataflow method, the barrier, and messages of the project's own tag.

#pragma once

#include "coop/dead_letters.hpp"
#include "coop/dispatch.hpp"
#include "coop/edge.hpp"
#include "coop/emitter.hpp"
#include "coop/late.hpp"
#include "coop/losses.hpp"
#include "coop/receiver.hpp"
#include "coop/spec.hpp"
#include "otp/special_process.hpp"

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace esp::coop {

class kill_switch;
using kill_switch_ptr = boost::intrusive_ptr<kill_switch>;

// What the head is told of a restart of its body.
struct restart {
  term reason;
  losses of_data;
  std::vector<std::pair<atom, esp::pid>> nodes;
};

// What a head is told once, with its first wiring.
struct founding {
  std::vector<std::pair<atom, esp::pid>> nodes; // of the template
  term edges;                                   // [{From, To}]
  std::optional<esp::pid> demand_of;            // the receiver is {demand, Pid}
  // Of a co-op whose body is restarted: who is told once nothing more enters.
  kill_switch_ptr body;
};

// The edges of one member.
struct wires {
  std::vector<in_edge> in;
  std::vector<out_edge> out;     // empty: the last tier
  std::unique_ptr<dispatch> how; // null: every result takes all of `out`
  facts_ptr of = no_facts();     // never null
};

// ... made where the co-op is made and handed over, with what is told once.
struct wiring : wires {
  std::optional<late_origin> origin; // of a late node, whose `out` are too
  std::optional<worker_pool> pool;   // of a router by `consume`
  std::unique_ptr<founding> first;   // for the head
  // After a restart of the body:
  node::message_list left;      // what waited at the node's predecessor
  std::optional<restart> after; // for the head
};

// Data, by the number of their edge.
using edge_counts = std::map<std::uint32_t, std::uint64_t>;

// What may wait of data that came without credit, and where the rest goes.
struct queue_limits {
  std::size_t data = 10'000;
  std::size_t bytes = 64u << 20;
  dead_letters_ptr beyond; // never null
};

class member : public otp::special_process, public emitter {
public:
  // `k` is whose members it is of; a late one may end with `normal`.
  member(node::node& home, std::uint64_t number, atom name, queue_limits limits,
         kill_switch_ptr k, bool is_late = false);
  ~member() override;

  atom name_in_template() const noexcept { return name_in_template_; }

  // From the process that makes the co-op, before data can come.
  void wire(std::unique_ptr<wiring> w);
  // A datum of its own that the co-op cannot keep: counted, and sent to the
  // co-op's dead_letter; if it belongs to a coop:call/3, that one's answer is
  // {error, Reason}. From any thread.
  void lose(const term& datum, const term& reason,
            const node::envelope_ptr& env = {});

  // It has come to rest, or was given up, and keeps its lane: what it has sent
  // to another home, and what waits in its lane, in order. Or nobody wants to
  // know.
  void sent(edge_counts& into);
  std::uint64_t delivered() const noexcept; // by demand
  node::message_list leave_behind();
  void let_go();
  // How many data are inside: those that wait and, once it has ended, the one
  // that it had in hand.
  std::uint64_t inside() const;
  // Its kill switch will not wait for its task.
  void abandon() noexcept;

  // For outlets, on this member's fiber, during a call of its task. Blocks;
  // throws exit_signal.
  void emit(datum&& d) final;
  bool emit_to(std::string_view node, datum&& d) final;
  void emit_to(const esp::pid& late, datum&& d) final;
  // A late node that it has started: what was sent to it was the last.
  void stop_late(const esp::pid& node);
  // A late node that was not wired ends, and nobody minds.
  void withdraw();
  bool is_wired() const noexcept { return is_wired_; }
  esp::pid head_pid() const noexcept { return wiring_.of->head; }

protected:
  // One datum, its credit given back; env() is its envelope. False: the process
  // ends over it.
  virtual bool take(datum& d) = 0;
  // The task's flush, before a barrier goes on.
  virtual void flush_task() {}
  // A head's: a barrier is about to enter the body.
  virtual void barrier_enters(const term& caller) { (void)caller; }
  virtual void founded(founding&& f) { (void)f; }
  virtual void rewired(const restart& r) { (void)r; }

  std::uint64_t window() const noexcept { return wiring_.of->window; }
  term describe(std::vector<std::pair<term, term>> more);
  virtual std::vector<std::pair<term, term>> more_info() { return {}; }
  virtual atom role() const = 0;
  void pass_barrier(const term& caller);
  void send_on(out_edge& e, datum&& d);
  bool is_router() const noexcept { return late_ && late_->pool; }
  const queue_limits& limits() const noexcept { return limits_; }
  // A late node is ready: wires it to go where this one goes. Its maker alone
  // ends it from here on.
  void add_late(const boost::intrusive_ptr<member>& node);
  bool is_late() const noexcept { return is_late_; }
  // A late node has ended itself: so do those that it has started, before it.
  void end_late();
  // One result, on each of these; as emit().
  void emit_on(std::span<out_edge> edges, datum&& d);
  std::span<out_edge> out_edges() noexcept { return wiring_.out; }
  dispatch* how() noexcept { return wiring_.how.get(); }
  bool have_credit(std::span<out_edge> edges);
  in_edge& add_in_edge(in_edge e);
  std::span<const in_edge> in_edges() const noexcept { return wiring_.in; }
  // Gives credit back for a datum before it is taken.
  void give_back_early(node::message& m) noexcept;
  void drop_in_edges_from(const esp::pid& sender);

  void leaves_queue(const node::message& m) noexcept;
  void handle_data(node::message_ptr m) override;
  void handle_request(node::message& m) override;
  std::optional<std::pair<node::message_ptr, node::lane>>
  accept_own(term message) override;
  std::optional<std::pair<node::message_ptr, node::lane>>
  accept(term message, const std::optional<esp::pid>& from) override;
  bool can_take_data() override {
    if (straight_ != nullptr && straight_->has_credit()
        && !has_credit_in_.load(std::memory_order_acquire)) [[likely]]
      return true;
    return looks_for_credit();
  }
  void received(const node::message& m) override { leaves_queue(m); }
  term as_sent(const node::message& m) const override;
  void run_ended() noexcept override;
  void ended(const term& reason) override;
  void fired_with(const term& reason) override;
  bool intercept_down(const ref& r) override;
  void rest() noexcept override;
  void overdue() noexcept override { abandon(); }
  // Takes no data until it is wired again.
  void unwire() noexcept {
    is_wired_ = false;
    straight_ = nullptr;
  }

  const kill_switch_ptr switch_; // null: a head

private:
  friend class receiver;
  friend class node::process; // its data_loop()

  std::optional<std::pair<node::message_ptr, node::lane>>
  accept_batch(const std::vector<term>& data, std::uint32_t edge,
               std::uint32_t units, const node::envelope_ptr& env);
  void take_wiring(wiring&& w);
  void take_datum(node::message_ptr m);
  void take_kept_datum(node::message_ptr m);
  void bury(const term& reason);
  void drop_wiring(bool from_outside);
  void take_barrier(in_edge& e, const term& caller);
  void pass_on(const term& caller);
  void release_held();
  late_part& late();
  void take_late_wiring(wiring& w);
  void take_joining(const term& request);
  void take_late_news(const returned_credit& c);
  void take_last(const in_edge& e);
  bool await_late(const term* caller);
  void settle_late();
  void finish_late();
  std::shared_ptr<made_node> made(const esp::pid& node) const;
  void not_understood(const term& message);
  void send_to_worker(out_edge& e, datum&& d);
  void order_workers();
  void say_good_bye();
  void give_back(in_edge& e, bool all) noexcept {
    if (e.owed > 0 && (all || e.owed * 4 >= e.window))
      give_back_owed(e);
  }
  void give_back_owed(in_edge& e) noexcept;
  in_edge* find_in(std::uint32_t number) noexcept {
    for (auto& e : wiring_.in)
      if (e.number == number)
        return &e;
    return late_ ? find_joined(number) : nullptr;
  }
  in_edge* find_joined(std::uint32_t number) noexcept;
  bool looks_for_credit();
  bool say_waiting();
  void take_credit_in() {
    if (has_credit_in_.load(std::memory_order_acquire))
      hear_of_credit();
  }
  void hear_of_credit();
  void wait_for_credit(out_edge& e);
  void wait_for_any_credit();
  void wait_for_news(); // of credit
  void wait_for_connection(atom at_node);
  node::message_ptr on_edge(const out_edge& e, datum&& d);
  void send_otherwise(out_edge& e, datum&& d);
  void push_and_tell(process& to, node::message_ptr m);
  void emit_chosen(datum&& d);
  void give_way();
  void deliver_result(datum&& d);
  node::envelope_ptr envelope_for(const node::message& m, const esp::pid& to);
  void tell_hop(process& to, const term& message);
  void debug_result(const term& result, const term& to) {
    if (is_debugged())
      debug_out(result, to);
  }
  void watch_receiver(const dist::pid_or_name& who, atom at_node);

  const atom name_in_template_;
  const queue_limits limits_;
  std::atomic<std::size_t> plain_bytes_{0}; // waiting, that have no credit
  wires wiring_;
  std::unique_ptr<receiver> receiver_; // null: none, or not of the last tier
  node::message_ptr hand_; // being worked at, if the lane is kept
  std::unique_ptr<late_part> late_;
  // The edge whose credit alone says whether a datum may be taken, if so.
  const out_edge* straight_ = nullptr;
  bool is_wired_ = false;
  const bool is_late_;
  std::atomic<bool> is_orderly_{false}; // its end, which nobody minds
  std::uint32_t held_ = 0;              // in edges a barrier has come on
  std::uint64_t in_ = 0, out_ = 0;
  std::size_t burst_ = 0; // sent in this run
  std::atomic<std::uint64_t> dropped_{0}, dead_lettered_{0}; // of the dropped

  bool broke_off_ = false; // ended over a datum

  mutable spinlock inbox_; // guards what is below
  std::vector<returned_credit> credit_in_;
  std::unique_ptr<ref> of_receiver_; // the monitor of who gives it credit
  bool receiver_lost_ = false;
  std::unique_ptr<wiring> new_wiring_;
  bool is_over_ = false, is_let_go_ = false; // the last to be clears up
  std::uint64_t left_ = 0; // data that were not in the lane when it was over
  bool is_cleared() const noexcept {
    return is_over_ && (is_let_go_ || !keeps_lane());
  }
  std::atomic<bool> has_credit_in_{false};
};

using member_ptr = boost::intrusive_ptr<member>;

} // namespace esp::coop
