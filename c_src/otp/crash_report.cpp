#include "otp/crash_report.hpp"

#include "esp/process.hpp"

#include "node/node.hpp"
#include "node/spawned.hpp"
#include "otp/logging.hpp"

#include <algorithm>
#include <string>
#include <vector>

namespace esp::otp {

namespace {

constexpr std::size_t max_term = 8u << 10; // bytes of a state or a message
constexpr std::size_t max_links = 100;     // pids
constexpr std::size_t max_messages = 10;   // of those that wait
constexpr std::size_t max_neighbours = 15; // as proc_lib

term yes_no(bool b) {
  return atom(b ? "true" : "false");
}

// [{M, F, ArityOrArgs, Location}], which Erlang's formatters rely on.
bool is_stack(const term& t) {
  const auto entries = t.as_list();
  if (!entries)
    return false;
  for (const term& e : *entries)
    if (e.arity() != 4 || e.kind() != kind::tuple
        || e.element(0).kind() != kind::atom
        || e.element(1).kind() != kind::atom)
      return false;
  return true;
}

// The arguments that it may hold, instead of an arity, cut; so it stays one.
term cut_stack(const term& stack) {
  std::vector<term> entries;
  const auto all = stack.as_list();
  for (const term& e : *all) {
    const term args = e.element(2);
    std::vector<term> shown;
    for (const term& a : args.as_list().value_or(std::vector<term>()))
      shown.push_back(cut(a, max_term));
    entries.push_back(term::tuple(
        {e.element(0), e.element(1),
         args.kind() == kind::integer ? args : term::list(shown),
         e.element(3)}));
  }
  return term::list(entries);
}

// As the exception it would have been: {error, R, Stack} of {R, Stack}, else
// {exit, Reason, []}.
struct exception {
  bool is_error;
  term reason, stack;
};
exception exception_of(const term& reason) {
  if (reason.kind() == kind::tuple && reason.arity() == 2
      && is_stack(reason.element(1)))
    return {true, cut(reason.element(0), max_term),
            cut_stack(reason.element(1))};
  return {false, cut(reason, max_term), term()};
}

// {M, F, ['Argument__1', ...]} of {M, F, Arity}: proc_lib does not show the
// arguments either.
term initial_call(const node::process& p) {
  const auto* o = p.where_from();
  const auto parts = o != nullptr ? o->initial_call.elements()
                                  : std::vector<term>();
  if (parts.size() != 3)
    return term::tuple({atom("esp"), atom("process"), term()});
  std::vector<term> args;
  for (std::int64_t i = 1, n = parts[2].as_integer().value_or(0); i <= n; ++i)
    args.emplace_back(atom("Argument__" + std::to_string(i)));
  return term::tuple({parts[0], parts[1], term::list(args)});
}

template <class T>
term list_of(const std::vector<T>& from) {
  std::vector<term> all;
  for (const T& v : from) {
    if (all.size() == max_links)
      break;
    all.emplace_back(v);
  }
  return term::list(all);
}

term item(std::string_view key, const term& value) {
  return term::tuple({atom(key), value});
}
term count(std::uint64_t n) {
  return term::integer(static_cast<std::int64_t>(n));
}
term name_of(const node::process& p) {
  const atom name = p.name();
  return name == atom() ? term() : term(name);
}
term ancestors_of(const node::process& p) {
  const auto* o = p.where_from();
  return o != nullptr ? list_of(o->ancestors) : term();
}

// What all reports end with. There is no heap, and no stack between runs.
void add_sizes(std::vector<term>& to, const node::process& p,
               std::string_view status) {
  to.insert(to.end(),
            {item("trap_exit", yes_no(p.traps_exit())),
             item("status", atom(status)), item("heap_size", count(0)),
             item("stack_size", count(0)),
             item("reductions", count(p.reductions()))});
}

term messages_of(node::process& p) {
  std::vector<term> all;
  for (const term& m : p.waiting(max_messages))
    all.push_back(cut(m, max_term / max_messages));
  return term::list(all);
}

term own_report(node::process& p, const exception& e) {
  std::vector<term> info{
      item("initial_call", initial_call(p)),
      item("pid", p.pid()),
      item("registered_name", name_of(p)),
      item("error_info", term::tuple({atom(e.is_error ? "error" : "exit"),
                                      e.reason, e.stack})),
      item("ancestors", ancestors_of(p)),
      item("message_queue_len", count(p.queued_data() + p.queued_control())),
      item("messages", messages_of(p)),
      item("links", list_of(p.links())),
      item("dictionary", term())};
  add_sizes(info, p, "running");
  return term::list(info);
}

// Those that it is linked to, by way of others too, and that its end takes
// along since they do not trap exits. Only this node's: proc_lib does not ask
// hidden nodes either.
std::vector<node::process_ptr> neighbours_of(const node::process& p) {
  std::vector<node::process_ptr> found;
  const auto add = [&](const node::process& of) {
    for (const pid& other : of.links()) {
      const auto q = of.home().find(other);
      if (found.size() < max_neighbours && q && q.get() != &p
          && !q->traps_exit() && std::ranges::find(found, q) == found.end())
        found.push_back(q);
    }
  };
  add(p);
  for (std::size_t i = 0; i < found.size(); ++i)
    add(*node::process_ptr(found[i])); // found grows
  return found;
}

term neighbour_report(const node::process& p) {
  const auto* o = p.where_from();
  static const term unknown
      = term::tuple({atom("esp"), atom("process"), term::integer(0)});
  const term call = o != nullptr ? o->initial_call : unknown;
  auto location = call.elements();
  location.emplace_back();
  std::vector<term> info{
      item("pid", p.pid()),
      item("registered_name", name_of(p)),
      item("initial_call", initial_call(p)),
      item("current_function", call),
      item("ancestors", ancestors_of(p)),
      item("message_queue_len", count(p.queued_data() + p.queued_control())),
      item("links", list_of(p.links()))};
  add_sizes(info, p, p.status());
  info.push_back(item("current_stacktrace",
                      term::list(std::initializer_list<term>{
                          term::tuple(location)})));
  return item("neighbour", term::list(info));
}

term proc_lib_report(node::process& p, const exception& e) {
  std::vector<term> neighbours;
  for (const auto& n : neighbours_of(p))
    neighbours.push_back(neighbour_report(*n));
  return term::map(
      {{atom("label"), term::tuple({atom("proc_lib"), atom("crash")})},
       {atom("report"),
        term::list({own_report(p, e), term::list(neighbours)})}});
}

// Without process_label 27 and later print a REPORT_CB crash instead.
term server_report(const node::process& p, const exception& e,
                   const in_hand& hand) {
  const atom undefined("undefined"), name = p.name();
  const term reason = e.is_error ? term::tuple({e.reason, e.stack}) : e.reason;
  return term::map(
      {{atom("label"), term::tuple({atom("gen_server"), atom("terminate")})},
       {atom("name"), name == atom() ? term(p.pid()) : term(name)},
       {atom("last_message"), cut(hand.last_message, max_term)},
       {atom("state"), cut(hand.state, max_term)},
       {atom("log"), term()},
       {atom("reason"), reason},
       {atom("client_info"), undefined},
       {atom("process_label"), undefined}});
}

// {M, F, Arity} of what would have logged it: whose level counts.
term logged_by(std::string_view module, std::string_view name, int arity) {
  return term::tuple({atom(module), atom(name), term::integer(arity)});
}

} // namespace

void report_crash(node::process& p, const term& reason,
                  const std::optional<in_hand>& hand) {
  if (node::is_orderly(reason))
    return;
  const exception e = exception_of(reason);
  const atom domain("domain"), report_cb("report_cb"), tag("tag"), mfa("mfa"),
      error_logger("error_logger"), otp("otp");
  if (hand)
    p.home().on_log(
        &p, level::error, server_report(p, e, *hand),
        {{mfa, logged_by("gen_server", "error_info", 8)},
         {domain, term::list(std::initializer_list<term>{otp})},
         {report_cb, external_fun("gen_server", "format_log", 2)},
         {error_logger,
          term::map(
              {{tag, atom("error")},
               {report_cb, external_fun("gen_server", "format_log", 1)}})}});
  p.home().on_log(
      &p, level::error, proc_lib_report(p, e),
      {{mfa, logged_by("proc_lib", "crash_report", 4)},
       {domain, term::list({otp, atom("sasl")})},
       {report_cb, external_fun("proc_lib", "report_cb", 2)},
       {atom("logger_formatter"),
        term::map({{atom("title"), term::string("CRASH REPORT")}})},
       {error_logger, term::map({{tag, atom("error_report")},
                                 {atom("type"), atom("crash_report")}})}});
}

} // namespace esp::otp
