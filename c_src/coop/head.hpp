// The process that users address: data enters here and wait for credit on all
// entry edges; control overtakes them. The supervisor's only link.

#pragma once

#include "base/spinlock.hpp"
#include "coop/demand.hpp"
#include "coop/member.hpp"
#include "coop/overload.hpp"

#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace esp::coop {

class head final : public member {
public:
  head(node::node& home, std::uint64_t number, queue_limits limits,
       const spec& s);

  // Before they are linked to it.
  void set_switches(std::vector<esp::pid> switches);
  // From the body: takes no data until it is wired again.
  void stop_entry();

protected:
  bool take(datum& d) override;
  void handle_data(node::message_ptr m) override;
  void arrived(node::message& first) override;
  void barrier_enters(const term& caller) override;
  void founded(founding&& f) override;
  void rewired(const restart& r) override;
  void ended(const term& reason) override;
  bool can_take_data() override;
  void handle_request(node::message& m) override;
  bool intercept_exit(const esp::pid& from, const term& reason,
                      bool by_link) override;
  void terminate(const term& reason) override { begin_end(reason); }

  void change_code(const term& from, const term& request) override;

  otp::answer state() override;
  atom module() const override;
  std::vector<atom> modules() const override { return modules_; }
  std::vector<std::pair<term, term>> more_info() override;
  atom role() const override;
  std::string doing() const override { return "co-op head"; }

private:
  bool own_request(const term& t);
  bool about_holding(const term& from, const term& request);
  bool no_longer_held(const ref& r);
  void attach(const term& request);
  std::span<out_edge> instance(std::size_t i);
  bool may_enter(node::message& m);
  void first_changes() noexcept override;
  void drop(node::message_ptr m);
  void serve_demand();
  void tell_relays();
  void begin_end(const term& reason);
  void waits_no_more(const term& message);
  std::vector<esp::pid> switches() const;
  void switch_gone(const esp::pid& which, const term& reason);

  overload overload_;
  std::uint64_t overloaded_ = 0; // data that the policy has turned away
  std::optional<std::pair<ref, demand>> demand_; // and the monitor of who asks
  // Those that live. Exit signals ask on their own thread, and who makes the
  // co-op writes when the name may be known already.
  mutable spinlock switches_lock_;
  std::vector<esp::pid> switches_;
  std::vector<std::pair<atom, esp::pid>> nodes_;
  term edges_;
  const std::vector<atom> modules_;
  // A change of code: by whom it is kept from sending data on, and the monitor
  // of that.
  std::optional<std::pair<esp::pid, ref>> held_by_;

  const std::size_t instances_;
  const term method_;
  // The instance that is next, and waited for; or why the first datum has none.
  std::optional<std::uint32_t> due_;
  std::optional<term> misfit_;

  std::optional<term> ending_;
  std::uint32_t next_edge_ = 1'000'000; // above any template's numbers
  std::unordered_map<esp::pid, unsigned> attached_; // edges of each

  // Of a body that is restarted: what is in it that somebody waits for.
  kill_switch_ptr body_;
  std::unordered_set<term> calls_;                // From
  std::unordered_map<term, std::size_t> flushes_; // {Caller, Ref}: marks
  std::uint64_t restarts_ = 0;
  losses losses_;
};

} // namespace esp::coop
