// The registered process `erlangsp`: the door that coop.erl and esp_node.erl
// knock on. Its requests are in doc/messages.md, "Starting".

#pragma once

#include "coop/spec.hpp"
#include "otp/special_process.hpp"
#include "plugin/task_table.hpp"

namespace esp::coop {

class coop_service final : public otp::special_process {
public:
  coop_service(node::node& home, std::uint64_t number,
               plugin::task_table& tasks)
      : special_process(home, number), tasks_(tasks) {}

  // The dynamic loader, and whatever a plugin does while it is loaded, take
  // more than a task's stack.
  std::size_t stack_size() const noexcept override { return 1u << 20; }

protected:
  void handle_data(node::message_ptr m) override;
  void handle_request(node::message& m) override { (void)m; }
  std::optional<std::pair<node::message_ptr, node::lane>>
  accept_own(term message) override;
  otp::answer state() override;
  atom module() const override;
  std::string doing() const override { return "erlangsp"; }
  // Its owner makes it the leader of whatever has no other.
  void leader_changed(const esp::pid& leader) override {
    home().set_default_leader(leader);
  }

private:
  void call(const term& from, const term& request);
  void start(const term& from, spec s, bool is_whole);
  term load(const term& file, bool if_new);
  term images() const;
  term nodes_of_old(atom plugin) const;
  term soft_purge(atom plugin) const;
  term purge(atom plugin) const;
  term plugins() const;

  plugin::task_table& tasks_;
};

} // namespace esp::coop
