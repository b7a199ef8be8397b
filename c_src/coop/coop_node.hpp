// One native task at work over its own state.

#pragma once

#include "esp/error.hpp"

#include "coop/member.hpp"

#include <functional>
#include <optional>
#include <string_view>

namespace esp::coop {

class coop_node final : public member {
public:
  coop_node(node::node& home, std::uint64_t number, const node_spec& s,
            queue_limits limits, kill_switch_ptr k, bool is_kept, bool is_late);

  // Makes the task's state on this process's fiber, then calls `done` there
  // with the Reason of a failure. Once, before anything else.
  void initialise(term args, std::function<void(std::optional<term>)> done);

  // Starts a late node (late.hpp) that runs another task of this one's plugin.
  // On this process's fiber; blocks until that task's state is made.
  result<esp::pid> start_node(std::string_view name, std::string_view task,
                              term args);

  std::size_t stack_size() const noexcept override { return stack_; }

protected:
  bool take(datum& d) override;
  void terminate(const term& reason) override;
  void flush_task() override;
  void handle_request(node::message& m) override;
  void ended(const term& reason) override;

  otp::answer state() override;
  std::optional<term> fixed_state() const override;
  otp::answer replace_state(const term& t) override;
  atom module() const override { return task_name_; }
  std::vector<atom> modules() const override { return {plugin_name_}; }
  std::vector<std::pair<std::string, term>> status() override;
  atom role() const override;
  std::string doing() const override;

private:
  struct initialisation {
    term args;
    std::function<void(std::optional<term>)> done;
  };

  // Runs `f`; the reason to end with if it throws what is no exit_signal.
  template <class F>
  std::optional<term> guarded(const term& datum, F&& f);
  void crash(const term& reason, const std::optional<term>& last);

  plugin::task_ref task_;
  const atom plugin_name_, task_name_;
  const std::size_t stack_;
  void* state_ = nullptr;
  std::unique_ptr<initialisation> initialise_;
};

} // namespace esp::coop
