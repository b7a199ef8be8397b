#include "otp/crash_report.hpp"

#include "esp/process.hpp"

#include "node/node.hpp"
#include "node/spawned.hpp"
#include "otp/logging.hpp"

#include <string>

namespace esp::otp {

namespace {

constexpr std::size_t max_term = 8u << 10; // bytes of a state or a message
constexpr std::size_t max_links = 100;     // pids

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
            cut(reason.element(1), max_term)};
  return {false, cut(reason, max_term), term()};
}

// {M, F, ['Argument__1', ...]} of {M, F, Arity}: proc_lib does not show the
// arguments either.
term initial_call(const term& mfa) {
  const auto parts = mfa.elements();
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

term proc_lib_report(const node::process& p, const exception& e,
                     const term& mfa) {
  const auto item = [](std::string_view key, const term& value) {
    return term::tuple({atom(key), value});
  };
  const auto count = [](std::uint64_t n) {
    return term::integer(static_cast<std::int64_t>(n));
  };
  const atom name = p.name();
  const auto* o = p.where_from();
  const term info = term::list(
      {item("initial_call", initial_call(mfa)), item("pid", p.pid()),
       item("registered_name", name == atom() ? term() : term(name)),
       item("error_info", term::tuple({atom(e.is_error ? "error" : "exit"),
                                       e.reason, e.stack})),
       item("ancestors", o != nullptr ? list_of(o->ancestors) : term()),
       item("message_queue_len", count(p.queued_data() + p.queued_control())),
       item("messages", term()), item("links", list_of(p.links())),
       item("dictionary", term()), item("trap_exit", yes_no(p.traps_exit())),
       item("status", atom("running")), item("heap_size", count(0)),
       item("stack_size", count(0)),
       item("reductions", count(p.reductions()))});
  return term::map(
      {{atom("label"), term::tuple({atom("proc_lib"), atom("crash")})},
       {atom("report"), term::list({info, term()})}});
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

void report(node::process& p, const term& mfa, const term& reason,
            const std::optional<in_hand>& hand) {
  if (node::is_orderly(reason))
    return;
  const exception e = exception_of(reason);
  const atom domain("domain"), report_cb("report_cb"), tag("tag"),
      error_logger("error_logger"), otp("otp");
  if (hand)
    p.home().on_log(
        &p, level::error, server_report(p, e, *hand),
        {{domain, term::list(std::initializer_list<term>{otp})},
         {report_cb, external_fun("gen_server", "format_log", 2)},
         {error_logger,
          term::map(
              {{tag, atom("error")},
               {report_cb, external_fun("gen_server", "format_log", 1)}})}});
  p.home().on_log(
      &p, level::error, proc_lib_report(p, e, mfa),
      {{domain, term::list({otp, atom("sasl")})},
       {report_cb, external_fun("proc_lib", "report_cb", 2)},
       {atom("logger_formatter"),
        term::map({{atom("title"), term::string("CRASH REPORT")}})},
       {error_logger, term::map({{tag, atom("error_report")},
                                 {atom("type"), atom("crash_report")}})}});
}

} // namespace

void report_crash(node::process& p, const term& reason,
                  const std::optional<in_hand>& hand) {
  const auto* o = p.where_from();
  report(p, o != nullptr ? o->initial_call : term(), reason, hand);
}

void report_crash(node::process& p, atom plugin, atom task, const term& reason,
                  const std::optional<term>& last, const term& state) {
  report(p, term::tuple({plugin, task, term::integer(1)}), reason,
         last ? std::optional(in_hand{*last, state}) : std::nullopt);
}

} // namespace esp::otp
