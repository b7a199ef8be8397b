// One native task at work over its own state.

#pragma once

#include "esp/error.hpp"

#include "coop/member.hpp"

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>

namespace esp::coop {

class traced_task;

class coop_node final : public member {
public:
  coop_node(node::node& home, std::uint64_t number, const node_spec& s,
            queue_limits limits, kill_switch_ptr k, bool is_kept, bool is_late);
  ~coop_node() override;

  // Makes the task's state on this process's fiber, then calls `done` there
  // with the Reason of a failure. Once, before anything else.
  void initialise(term args, std::function<void(std::optional<term>)> done);

  // Starts a late node (late.hpp) that runs another task of this one's plugin.
  // On this process's fiber; blocks until that task's state is made.
  result<esp::pid> start_node(std::string_view name, std::string_view task,
                              term args);

  std::shared_ptr<const void> code() const override;
  std::size_t stack_size() const noexcept override { return stack_; }

  // ---- A change of code ------------------------------------------------------

  atom plugin_name() const noexcept { return plugin_name_; }
  atom task_name() const noexcept { return task_name_; }
  plugin::task_ref task() const; // from any thread
  kill_switch* of() const noexcept { return switch_.get(); }
  // From its kill switch, which hears of it under that number. Prepared, it has
  // its next state beside the old one, and takes no data; an order that it has
  // not looked at yet is replaced by the next.
  void prepare_change(plugin::task_ref to, bool is_down, term given,
                      std::uint32_t order);
  void commit_change(std::uint32_t order);
  void abort_change();

protected:
  bool can_take_data() override {
    return next_ == nullptr && member::can_take_data();
  }
  stop handle_all_data(unsigned& n) override { return data_loop(*this, n); }
  void change_code(const term& from, const term& request) override;
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
  std::vector<std::pair<term, term>> more_info() override;
  atom role() const override;
  std::string doing() const override;

private:
  friend class node::process; // its data_loop()

  struct initialisation {
    term args;
    std::function<void(std::optional<term>)> done;
  };

  // What it is to become, if all of them can; and then what it was.
  struct successor {
    plugin::task_ref to;
    const detail::task_entry* by = nullptr; // of its dataflow
    void* state = nullptr;

    ~successor() {
      if (state != nullptr && to.entry->destroy != nullptr)
        to.entry->destroy(state);
    }
  };
  struct order {
    enum class word { prepare, commit, abort } what;
    plugin::task_ref to;
    bool is_down;
    term given; // Extra
    std::uint32_t number;
  };

  bool take_watched(datum& d);
  std::optional<term> caught(const datum& d);
  bool fail(const datum& d, const std::optional<term>& reason); // false
  std::unique_ptr<traced_task> trace(const datum& d); // null: not this call
  term shown_state();
  void give(order o);
  void obey(const order& o);
  std::optional<term> make_next(plugin::task_ref to, bool is_down,
                                const term& given);
  void become_next();

  void to_initialise(term args, std::function<void(std::optional<term>)> done);
  // Runs `f`; the reason to end with if it throws what is no exit_signal.
  template <class F>
  std::optional<term> guarded(const term& datum, F&& f);
  void crash(const term& reason, const std::optional<term>& last);

  plugin::task_ref task_;
  const atom plugin_name_, task_name_;
  std::size_t stack_;
  void* state_ = nullptr;
  std::unique_ptr<initialisation> initialise_;
  std::unique_ptr<successor> next_;
  std::atomic<order*> order_{nullptr};
};

} // namespace esp::coop
