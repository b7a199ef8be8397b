#include "coop/coop_node.hpp"

#include "esp/process.hpp"

#include "coop/emitter.hpp"
#include "coop/kill_switch.hpp"
#include "node/spawned.hpp"
#include "otp/crash_report.hpp"

#include <stdexcept>
#include <utility>

namespace esp::coop {

coop_node::coop_node(node::node& home, std::uint64_t number, const node_spec& s,
                     queue_limits limits, kill_switch_ptr k, bool is_kept)
    : member(home, number, s.name, limits, std::move(k)),
      task_(s.task),
      plugin_name_(s.plugin_name),
      task_name_(s.task_name),
      stack_(s.stack) {
  if (is_kept)
    keep_lane();
}

template <class F>
std::optional<term> coop_node::guarded(const term& datum, F&& f) {
  try {
    f();
    return std::nullopt;
  } catch (const exit_signal& e) {
    finish(e.reason()); // esp::exit, or what run() knows already
    return std::nullopt;
  } catch (const decode_error&) {
    static const atom function_clause("function_clause");
    return term::tuple(
        {function_clause,
         term::list({term::tuple(
             {plugin_name_, task_name_, term::list({datum}), term()})})});
  } catch (const bad_result& e) {
    return term::tuple(
        {e.reason(), term::list({term::tuple({plugin_name_, task_name_,
                                              term::integer(2), term()})})});
  } catch (...) {
    return node::reason_of_current_exception();
  }
}

void coop_node::initialise(term args,
                           std::function<void(std::optional<term>)> done) {
  initialise_ = std::make_unique<initialisation>(
      initialisation{std::move(args), std::move(done)});
  push(std::make_unique<node::message>(node::what::control, datum()),
       node::lane::control);
}

void coop_node::handle_request(node::message& m) {
  if (!initialise_ || m.kind != node::what::control || !m.value.empty())
    return member::handle_request(m);
  const auto i = std::move(initialise_);
  if (task_.entry->create == nullptr) {
    state_ = reinterpret_cast<void*>(task_.entry->function);
    return i->done(std::nullopt);
  }
  enter_task();
  const auto reason =
      guarded(i->args, [&] { state_ = task_.entry->create(i->args); });
  if (!leave_task())
    return;
  if (state_ != nullptr || reason)
    i->done(reason);
  // Else it was told to end meanwhile, and who waits hears of that.
}

bool coop_node::take(datum& d) {
  bool is_done = false;
  enter_task();
  const auto reason = [&] {
    try {
      outlet out(static_cast<emitter*>(this));
      task_.entry->call(state_, d, out);
      is_done = true;
      return std::optional<term>();
    } catch (...) {
      return guarded(d.empty() ? term() : d.to_term(), [] { throw; });
    }
  }();
  if (!leave_task())
    return false;
  if (reason)
    crash(*reason, d.empty() ? std::nullopt : std::optional(d.to_term()));
  return is_done;
}

void coop_node::flush_task() {
  if (task_.entry->flush == nullptr)
    return;
  enter_task();
  const auto reason = guarded(term(atom("flush")), [&] {
    outlet out(static_cast<emitter*>(this));
    task_.entry->flush(state_, out);
  });
  if (leave_task() && reason)
    crash(*reason, std::nullopt);
  check_exit(); // the barrier does not go on from a node that has failed
}

void coop_node::crash(const term& reason, const std::optional<term>& last) {
  const auto shown = state();
  const term* const s = std::get_if<term>(&shown);
  otp::report_crash(*this, plugin_name_, task_name_, reason, last,
                    s != nullptr ? *s : term(atom("undefined")));
  finish(reason);
}

void coop_node::ended(const term& reason) {
  if (state_ != nullptr && task_.entry->destroy != nullptr)
    task_.entry->destroy(std::exchange(state_, nullptr));
  member::ended(reason);
}

otp::answer coop_node::state() {
  static const atom opaque("opaque"), undefined("undefined");
  if (task_.entry->create == nullptr)
    return term(undefined);
  if (task_.entry->get_state == nullptr)
    return term::tuple({opaque, term::binary(task_.entry->type)});
  std::optional<term> s;
  if (auto reason =
          guarded(term(), [&] { s = task_.entry->get_state(state_); }))
    return otp::refusal{*reason};
  return s ? *s : term(undefined);
}

std::optional<term> coop_node::fixed_state() const {
  if (task_.entry->replace_state != nullptr)
    return std::nullopt;
  return term::binary(task_.entry->type);
}

otp::answer coop_node::replace_state(const term& t) {
  if (auto reason = guarded(t, [&] { task_.entry->replace_state(state_, t); }))
    return otp::refusal{*reason};
  return state();
}

std::vector<std::pair<std::string, term>> coop_node::status() {
  return {{"Plugin", plugin_name_},
          {"Version", term::binary(task_.from->version())},
          {"Task", task_name_},
          {"Node", name_in_template()},
          {"Info", describe({})}};
}

atom coop_node::role() const {
  static const atom r("node");
  return r;
}

std::string coop_node::doing() const {
  return std::string(plugin_name_.name()) + ":"
         + std::string(task_name_.name());
}

} // namespace esp::coop

// What plugins call.
namespace esp {

void outlet::emit_datum(datum d) {
  static_cast<coop::emitter*>(node_)->emit(std::move(d));
}

void outlet::emit_datum_to(std::string_view node, datum d) {
  if (!static_cast<coop::emitter*>(node_)->emit_to(node, std::move(d)))
    throw std::invalid_argument("no downstream node " + std::string(node));
}

} // namespace esp
