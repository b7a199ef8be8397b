#include "coop/coop_node.hpp"

#include "esp/process.hpp"

#include "coop/emitter.hpp"
#include "coop/kill_switch.hpp"
#include "coop/traced_task.hpp"
#include "node/spawned.hpp"
#include "otp/crash_report.hpp"

#include <atomic>
#include <exception>
#include <memory>
#include <stdexcept>
#include <utility>

namespace esp::coop {

coop_node::coop_node(node::node& home, std::uint64_t number, const node_spec& s,
                     queue_limits limits, kill_switch_ptr k, bool is_kept,
                     bool is_late)
    : member(home, number, s.name, limits, std::move(k), is_late),
      task_(s.task),
      plugin_name_(s.plugin_name),
      task_name_(s.task_name),
      stack_(s.stack) {
  if (is_kept)
    keep_lane();
}

coop_node::~coop_node() { delete order_.load(); }

template <class F>
std::optional<term> coop_node::guarded(const term& datum, F&& f) {
  try {
    f();
    return std::nullopt;
  } catch (const exit_signal& e) {
    // esp::exit, or what run() knows already
    if (is_late() && is_wired() && e.reason().is_atom("normal")
        && !exit_reason())
      end_late();
    else
      finish(e.reason());
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
  to_initialise(std::move(args), std::move(done));
  push(std::make_unique<node::message>(node::what::control, datum()),
       node::lane::control);
}

void coop_node::to_initialise(term args,
                              std::function<void(std::optional<term>)> done) {
  initialise_ = std::make_unique<initialisation>(
      initialisation{std::move(args), std::move(done)});
}

void coop_node::handle_request(node::message& m) {
  if (!initialise_ || m.kind != node::what::control || !m.value.empty()) {
    const bool is_of_ours
        = m.kind == node::what::control && m.value.empty();
    member::handle_request(m); // its wiring, if that has come, is before
    if (is_of_ours)
      if (const std::unique_ptr<order> o{order_.exchange(nullptr)})
        obey(*o);
    return;
  }
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
    return i->done(reason);
  // Else it was told to end meanwhile, and who waits hears of that.
  if (is_late())
    i->done(exit_reason());
}

result<esp::pid> coop_node::start_node(std::string_view name,
                                       std::string_view task, term args) {
  if (keeps_lane())
    return {errc::refused, "the co-op has restart => body"};
  if (!is_wired())
    return {errc::refused, "the co-op is not there yet"};
  if (is_router())
    return {errc::refused, "a router by consume starts no other nodes"};
  node_spec s;
  s.task = {task_.from, task_.from->find(task)};
  if (s.task.entry == nullptr)
    return {errc::not_found, "no task " + std::string(task)};
  s.name = atom(name);
  s.plugin_name = plugin_name_;
  s.task_name = atom(task);
  s.stack = s.task.entry->options.stack;
  const auto node = home().spawn<coop_node>(s, limits(), switch_, false, true);
  node->set_origin(term::tuple({plugin_name_, s.task_name, term::integer(2)}),
                   {switch_->pid(), pid()});
  node->set_parent(switch_->pid());
  node->receive_leader(leader());
  struct outcome {
    std::atomic<bool> is_there{false};
    std::optional<term> failure;
  };
  const auto o = std::make_shared<outcome>();
  node->to_initialise(
      std::move(args), [o, self = node.get(),
                        me = node::process_ptr(this)](std::optional<term> r) {
        if (r)
          self->withdraw();
        o->failure = std::move(r);
        o->is_there.store(true, std::memory_order_release);
        me->kick();
      });
  // What it is told from here on finds that it has yet to initialise itself.
  if (!switch_->adopt(node)) {
    node->withdraw();
    check_exit();
    return {errc::noproc, "the co-op ends"};
  }
  node->push(std::make_unique<node::message>(node::what::control, datum()),
             node::lane::control);
  try {
    block([&] { return o->is_there.load(std::memory_order_acquire); });
  } catch (...) { // no room for one more fiber that waits, or the end
    node->withdraw();
    throw;
  }
  if (o->failure)
    return {errc::refused, o->failure->to_string(1'000)};
  add_late(node);
  return node->pid();
}

std::unique_ptr<traced_task> coop_node::trace(const datum& d) {
  auto call = home().traces()->called(
      *this, plugin_name_, task_name_, 2,
      [&] { return term::list({shown_state(), shown(d)}); });
  return call ? std::make_unique<traced_task>(*this, std::move(call)) : nullptr;
}

term coop_node::shown_state() {
  const auto s = state();
  const auto* const t = std::get_if<term>(&s);
  return t != nullptr ? *t : std::get<otp::refusal>(s).reason;
}

bool coop_node::take(datum& d) {
  if (!is_ordinary()) [[unlikely]]
    return take_watched(d);
  std::optional<term> reason;
  try {
    outlet out(static_cast<emitter*>(this));
    task_.entry->call(state_, d, out);
    return true;
  } catch (...) {
    reason = caught(d);
  }
  return fail(d, reason);
}

bool coop_node::take_watched(datum& d) {
  const auto told = is_traced() ? trace(d) : nullptr;
  std::optional<term> reason;
  enter_task();
  try {
    outlet out(told ? told.get() : static_cast<emitter*>(this));
    task_.entry->call(state_, d, out);
    if (told)
      told->returned([this] { return shown_state(); });
    return leave_task();
  } catch (...) {
    if (told)
      told->raised();
    reason = caught(d);
  }
  return fail(d, reason);
}

// In a handler, where nothing of the task's may run that could block.
std::optional<term> coop_node::caught(const datum& d) {
  return guarded(d.empty() ? term() : d.to_term(), [] { throw; });
}

bool coop_node::fail(const datum& d, const std::optional<term>& reason) {
  if (leave_task() && reason)
    crash(*reason, d.empty() ? std::nullopt : std::optional(d.to_term()));
  return false;
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

void coop_node::terminate(const term& reason) {
  if (is_late() && is_wired() && reason.is_atom("normal"))
    end_late();
  else
    finish(reason);
}

void coop_node::crash(const term& reason, const std::optional<term>& last) {
  const auto shown = state();
  const term* const s = std::get_if<term>(&shown);
  const term known = s != nullptr ? *s : term(atom("undefined"));
  otp::report_crash(*this, reason,
                    last ? std::optional(otp::in_hand{*last, known})
                         : std::nullopt);
  finish(reason);
}

void coop_node::ended(const term& reason) {
  next_.reset();
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
  if (next_ != nullptr) // which is made of the one that it has
    return otp::refusal{atom("code_change")};
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

std::vector<std::pair<term, term>> coop_node::more_info() {
  return {{atom("plugin"), plugin_name_},
          {atom("vsn"), term::binary(task_.from->version())},
          {atom("task"), task_name_}};
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

void outlet::emit_datum(datum&& d) {
  static_cast<coop::emitter*>(node_)->emit(std::move(d));
}

void outlet::emit_datum_to(std::string_view node, datum&& d) {
  if (!static_cast<coop::emitter*>(node_)->emit_to(node, std::move(d)))
    throw std::invalid_argument("no downstream node " + std::string(node));
}

void outlet::emit_datum_to(const pid& node, datum&& d) {
  static_cast<coop::emitter*>(node_)->emit_to(node, std::move(d));
}

namespace {

coop::coop_node& this_node_of_a_coop() {
  auto* const me = dynamic_cast<coop::coop_node*>(node::process::current());
  if (me == nullptr || !me->is_wired())
    throw std::logic_error("esp: called off a co-op node's task");
  // Destructors of a task that ends may still say good-bye.
  if (std::uncaught_exceptions() == 0 && !me->is_finalizing())
    me->check_exit();
  return *me;
}

} // namespace

result<pid> start_node(std::string_view name, std::string_view task,
                       const term& args) {
  return this_node_of_a_coop().start_node(name, task, args);
}

void stop_node(const pid& node) {
  this_node_of_a_coop().stop_late(node);
}

pid head() {
  return this_node_of_a_coop().head_pid();
}

} // namespace esp
