// The process that makes one unit of a co-op's nodes in this home: when any of
// them ends, for whatever reason, it ends the others with that reason, waits
// until they are gone, and ends with it. Linked to the head and to the kill
// switch of the other home; what they end with, it ends with.

#pragma once

#include "coop/member.hpp"

#include <memory>
#include <vector>

namespace esp::coop {

class builder;

class kill_switch final : public otp::special_process {
public:
  using special_process::special_process;

  // Before it can hear of anything.
  void take_care_of(std::vector<member_ptr> members);
  // The half-built co-op that a {wire, ...} is about; let go after it.
  void keep(std::shared_ptr<builder> b) { builder_ = std::move(b); }

  // From a member, on any thread, when its links would have fired.
  void member_ended(const member& m, const term& reason);

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
  void begin_end(const term& reason);
  void check_gone();

  std::vector<member_ptr> members_;
  std::size_t alive_ = 0;
  std::optional<term> ending_; // the reason, once there is one
  std::shared_ptr<builder> builder_;
};

} // namespace esp::coop
