// A node's part of a change of code: code_change.hpp for all of a co-op, or
// sys:change_code/4 for it alone.

#include "esp/process.hpp"

#include "coop/coop_node.hpp"
#include "coop/kill_switch.hpp"
#include "node/remote_call.hpp"
#include "node/spawned.hpp"

#include <algorithm>
#include <mutex>
#include <utility>

namespace esp::coop {

namespace {

// Tasks change so rarely, and are asked for from outside so rarely, that one
// lock will do for all nodes.
std::mutex task_lock;

term error(term reason) {
  return term::tuple({atom("error"), std::move(reason)});
}

} // namespace

plugin::task_ref coop_node::task() const {
  const std::lock_guard lock(task_lock);
  return task_;
}

void coop_node::prepare_change(plugin::task_ref to, bool is_down, term given,
                               std::uint32_t n) {
  give({order::word::prepare, std::move(to), is_down, std::move(given), n});
}

void coop_node::commit_change(std::uint32_t n) {
  give({order::word::commit, {}, false, {}, n});
}

void coop_node::abort_change() {
  give({order::word::abort, {}, false, {}, 0});
}

void coop_node::give(order o) {
  delete order_.exchange(new order(std::move(o)), std::memory_order_acq_rel);
  push(std::make_unique<node::message>(node::what::control, datum()),
       node::lane::control);
}

void coop_node::obey(const order& o) {
  switch (o.what) {
  case order::word::prepare: {
    const auto refusal = make_next(o.to, o.is_down, o.given);
    if (is_given_up())
      return;
    switch_->change_answered(number(), o.number, refusal);
    break;
  }
  case order::word::commit:
    become_next();
    switch_->change_answered(number(), o.number, std::nullopt);
    break;
  case order::word::abort:
    next_.reset();
    break;
  }
}

// The state goes from one image to the other as a term. The old one stays as it
// is.
std::optional<term> coop_node::make_next(plugin::task_ref to, bool is_down,
                                         const term& given) {
  static const atom no_state_codec("no_state_codec"), no_task("no_task"),
      bad_state("bad_state"), down("down"), undefined("undefined");
  const auto& was = *task_.entry;
  const auto& is = *to.entry;
  auto next = std::make_unique<successor>();
  next->to = to;
  if (const atom by = how() != nullptr ? how()->by_task() : atom();
      by != atom()) {
    next->by = to.from->find(by.name());
    if (next->by == nullptr || next->by->create != nullptr)
      return term::tuple({no_task, plugin_name_, by});
  }
  if (was.create == nullptr && is.create == nullptr) {
    next->state = reinterpret_cast<void*>(is.function);
    next_ = std::move(next);
    return std::nullopt;
  }
  // What they start is of the one or the other.
  (void)hold(std::make_shared<std::pair<plugin::image_ptr, plugin::image_ptr>>(
      task_.from, to.from));
  const bool is_for_older = is_down && was.code_change_down != nullptr;
  if (is.code_change == nullptr)
    return term::tuple({no_state_codec, term::binary(is.type)});
  if (was.create != nullptr && was.get_state == nullptr && !is_for_older)
    return term::tuple({no_state_codec, term::binary(was.type)});
  const term old_vsn = term::binary(task_.from->version());
  enter_task();
  const auto refusal = [&]() -> std::optional<term> {
    term old = undefined;
    try {
      if (is_for_older)
        old = was.code_change_down(state_, term::binary(to.from->version()),
                                   given);
      else if (was.create != nullptr)
        old = was.get_state(state_);
      next->state = is.code_change(
          is_down ? term::tuple({down, old_vsn}) : old_vsn, old, given);
      return std::nullopt;
    } catch (const exit_signal& e) {
      return e.reason();
    } catch (const decode_error&) {
      return term::tuple({bad_state, old});
    } catch (...) {
      return node::reason_of_current_exception();
    }
  }();
  const bool is_heard = leave_task();
  (void)hold(nullptr);
  if (is_heard && refusal)
    return refusal;
  next_ = std::move(next); // what is not heard of goes when the process does
  return refusal;
}

std::shared_ptr<const void> coop_node::code() const {
  if (auto both = member::code())
    return both;
  const std::lock_guard lock(task_lock);
  return task_.from;
}

void coop_node::become_next() {
  const auto next = std::move(next_);
  if (!next)
    return;
  {
    const std::lock_guard lock(task_lock);
    std::swap(task_, next->to);
  }
  std::swap(state_, next->state);
  if (task_.entry->create == nullptr && next->to.entry->create == nullptr)
    next->state = nullptr; // a function
  if (next->by != nullptr)
    how()->go_by(next->by);
  stack_ = std::max(stack_, task_.entry->options.stack);
}

// {change_code, Module, OldVsn, Extra} of sys, while it is suspended. What those
// ahead of it run, and what waits here, is as it was: values of two images meet
// as terms.
void coop_node::change_code(const term& from, const term& request) {
  if (request.element(1) != term(plugin_name_))
    return special_process::change_code(from, request);
  const auto answer = [&](const term& a) { home().reply(pid(), from, a); };
  if (next_ != nullptr)
    return answer(error(atom("busy")));
  const auto caller = from.element(0).as_pid();
  if (caller && caller->node != home().name()) {
    // Whoever cannot be asked has no newer one.
    const auto renewed = node::remote_call(
        caller->node, "esp_plugin", "renew",
        term::list({home().name(), term::list({plugin_name_})}), infinity);
    if (renewed && renewed->how == "return"
        && renewed->value.is_tagged("error", 2))
      return answer(renewed->value);
  }
  plugin::task_ref to;
  if (switch_->tasks() != nullptr)
    to.from = switch_->tasks()->find(plugin_name_.name());
  if (!to.from)
    return answer(error(term::tuple({atom("no_plugin"), plugin_name_})));
  if (to.from == task_.from)
    return answer(atom("ok"));
  to.entry = to.from->find(task_name_.name());
  if (to.entry == nullptr)
    return answer(
        error(term::tuple({atom("no_task"), plugin_name_, task_name_})));
  const auto refusal =
      make_next(to, request.element(2).is_tagged("down", 2), request.element(3));
  if (refusal)
    return answer(error(*refusal));
  switch_->changed(task_.from, to.from);
  become_next();
  answer(atom("ok"));
}

} // namespace esp::coop
