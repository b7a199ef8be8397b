#include "otp/special_process.hpp"

#include "base/log.hpp"
#include "esp/process.hpp"
#include "otp/release.hpp"

#include <algorithm>
#include <cstring>
#include <string>

namespace esp::otp {

namespace {

const atom ok("ok"), error_("error"), true_("true"), false_("false");
const atom own_tag("$coop");
// Of what is switched on in one process: each fun is called for each event.
constexpr std::size_t most_options = 100;

bool ends_with_atom(const term& t, std::string_view name) {
  const auto b = t.bytes();
  return b.size() > name.size()
         && std::memcmp(b.data() + b.size() - name.size(), name.data(),
                        name.size())
                == 0;
}

// A string, a binary or an atom.
std::optional<std::string> file_name(const term& t) {
  if (const auto a = t.as_atom_name())
    return std::string(*a);
  return t.as_iodata();
}

term error(term reason) { return term::tuple({error_, std::move(reason)}); }

} // namespace

std::pair<node::message_ptr, node::lane> special_process::control(term t) {
  return {std::make_unique<node::message>(node::what::control,
                                          datum::of(std::move(t))),
          node::lane::control};
}

std::pair<node::message_ptr, node::lane> special_process::data(term t) {
  return {std::make_unique<node::message>(node::what::data,
                                          datum::of(std::move(t))),
          node::lane::data};
}

std::optional<std::pair<node::message_ptr, node::lane>>
special_process::accept(term m, const std::optional<esp::pid>&) {
  if (m.kind() == kind::tuple) {
    const term first = m.element(0);
    if (const auto tag = first.as_atom_name()) {
      if (*tag == "$coop")
        return accept_own(std::move(m));
      if (m.is_tagged("system", 3) || m.is_tagged("get_modules", 2))
        return control(std::move(m));
      if (m.is_tagged("EXIT", 3)) {
        base::log(base::log_level::notice, "a plain message dropped by "
                                        + term(pid()).to_string() + ": "
                                        + m.to_string(200));
        return std::nullopt;
      }
    } else if (m.arity() == 3 && ends_with_atom(m, "get_modules")
               && m.element(2).is_atom("get_modules")
               && first.kind() == kind::pid) {
      return control(std::move(m));
    }
  }
  return data(std::move(m));
}

void special_process::handle_control(node::message& m) {
  if (m.kind != node::what::control || m.value.empty()
      || !m.value.holds<term>())
    return handle_request(m);
  const term t = m.value.as<term>();
  if (t.is_tagged("system", 3)) {
    try {
      system_message(t.element(1), t.element(2));
    } catch (const exit_signal& e) {
      (void)e; // noted already; run() ends it
    }
    return;
  }
  const auto all = [this] {
    std::vector<term> names;
    for (const atom a : modules())
      names.emplace_back(a);
    return term::list(names);
  };
  if (t.is_tagged("get_modules", 2)) {
    if (const auto to = t.element(1).as_pid())
      send(*to, term::tuple({atom("modules"), all()}));
    return;
  }
  if (t.arity() == 3 && t.element(2).is_atom("get_modules"))
    return home().reply(pid(), t.element(1), all());
  handle_request(m);
}

// sys's own requests; see handle_system_msg/6 in sys.erl. Funs run on the
// caller's node, since closures can run nowhere else.
void special_process::system_message(const term& from, const term& request) {
  const auto answer_with = [&](const term& a) {
    home().reply(pid(), from, a);
  };
  if (request.is_atom("get_state"))
    return answer_with(get_state(from));
  if (request.is_tagged("replace_state", 2))
    return answer_with(replace(from, request.element(1)));
  if (request.is_atom("get_status"))
    return answer_with(get_status());
  if (request.is_atom("suspend")) {
    set_suspended(true);
    return answer_with(ok);
  }
  if (request.is_atom("resume")) {
    set_suspended(false);
    return answer_with(ok);
  }
  if (request.is_tagged("terminate", 2)) {
    answer_with(ok);
    return terminate(request.element(1));
  }
  // While it runs, sys's own answer is that it does not know the request.
  if (request.is_tagged("change_code", 4) && is_suspended())
    return change_code(from, request);
  if (request.is_tagged("debug", 2))
    return answer_with(debug_request(request.element(1), from));
  answer_with(error(term::tuple({atom("unknown_system_msg"), request})));
}

void special_process::change_code(const term& from, const term&) {
  home().reply(pid(), from, ok);
}

term special_process::get_state(const term& from) {
  const auto caller = from.element(0).as_pid();
  const answer a = state();
  if (const auto* no = std::get_if<refusal>(&a))
    return error(no->reason);
  const term& s = std::get<term>(a);
  return caller && wraps_state(caller->node) ? term::tuple({ok, s}) : s;
}

term special_process::replace(const term& from, const term& fun) {
  const auto caller = from.element(0).as_pid();
  if (const auto type = fixed_state())
    return error(term::tuple({atom("no_state_codec"), *type}));
  const answer a = state();
  if (const auto* no = std::get_if<refusal>(&a))
    return error(no->reason);
  const auto failed = [&](const term& why) {
    return error(term::tuple({atom("callback_failed"), fun, why}));
  };
  if (!caller)
    return failed(term::tuple({error_, atom("badarg")}));
  const auto applied = apply_at(
      caller->node, fun,
      term::list(std::initializer_list<term>{std::get<term>(a)}));
  if (const auto* no = std::get_if<refusal>(&applied))
    return failed(no->reason);
  const answer now = replace_state(std::get<term>(applied));
  if (const auto* no = std::get_if<refusal>(&now))
    return failed(term::tuple({error_, no->reason}));
  const term& s = std::get<term>(now);
  return wraps_state(caller->node) ? term::tuple({ok, s}) : s;
}

term special_process::get_status() {
  static const atom status_("status"), module_("module"),
      initial("$initial_call"), ancestors("$ancestors"), running_("running"),
      suspended("suspended"), header("header"), list_("data");
  std::vector<term> dictionary;
  if (const auto* o = where_from()) {
    dictionary.push_back(term::tuple({initial, o->initial_call}));
    dictionary.push_back(term::tuple({ancestors, term::list(o->ancestors)}));
  }
  const esp::pid me = pid();
  const auto above = parent();
  const term parent_pid = above ? term(*above) : term(me);
  std::vector<term> facts;
  facts.push_back(term::tuple(
      {term::string("Status"), is_suspended() ? suspended : running_}));
  facts.push_back(term::tuple({term::string("Parent"), parent_pid}));
  for (auto& [name, value] : status())
    facts.push_back(term::tuple({term::string(name), value}));
  const answer a = state();
  const term shown = std::holds_alternative<term>(a)
                         ? std::get<term>(a)
                         : std::get<refusal>(a).reason;
  const std::string head = "Status for " + std::string(module().name()) + " "
                           + term(me).to_string();
  const term misc = term::list(
      {term::tuple({header, term::string(head)}),
       term::tuple({list_, term::list(facts)}),
       term::tuple({list_, term::list({term::tuple(
                               {term::string("State"), shown})})})});
  return term::tuple(
      {status_, me, term::tuple({module_, module()}),
       term::list({term::list(dictionary),
                   is_suspended() ? suspended : running_, parent_pid,
                   debug_ ? debug_->options() : term(), misc})});
}

term special_process::debug_request(const term& r, const term& from) {
  const auto get = [this]() -> debug& {
    if (!debug_)
      debug_ = std::make_unique<debug>();
    return *debug_;
  };
  const auto done = [this](const term& reply) {
    if (debug_ && debug_->is_idle())
      debug_.reset();
    return reply;
  };
  if (r.is_atom("no_debug")) {
    debug_.reset();
    return ok;
  }
  static constexpr const char* known[]
      = {"statistics", "log", "trace", "log_to_file", "install", "remove"};
  if (std::ranges::none_of(
          known, [&r](const char* name) { return r.is_tagged(name, 2); }))
    return atom("unknown_debug");
  const term what = r.element(1);
  if (r.is_tagged("install", 2))
    return install(what, from);
  if (r.is_tagged("remove", 2)) {
    if (debug_)
      debug_->remove(what);
    return done(ok);
  }
  if (r.is_tagged("log_to_file", 2)) {
    if (what.is_atom("false"))
      return get().close_file(), done(ok);
    const auto name = file_name(what);
    if (name && get().log_to_file(*name))
      return ok;
    get().close_file();
    return done(error(atom("open_file")));
  }
  if (r.is_tagged("statistics", 2)) {
    if (what.is_atom("true"))
      return get().start_statistics(reductions()), ok;
    if (what.is_atom("false"))
      return get().stop_statistics(), done(ok);
    if (what.is_atom("get"))
      return done(get().statistics(reductions()));
  } else if (r.is_tagged("log", 2)) {
    if (what.is_atom("true"))
      return get().log(10), ok; // sys's own default
    if (what.is_tagged("true", 2))
      if (const auto n = what.element(1).as_integer(); n && *n > 0)
        return get().log(static_cast<std::size_t>(*n)), ok;
    if (what.is_atom("false"))
      return get().log(0), done(ok);
    if (what.is_atom("get"))
      return done(term::tuple({ok, get().events()}));
    if (what.is_atom("print")) {
      const auto events = get().events().as_list().value_or(std::vector<term>{});
      for (const term& e : events)
        print(debug::print(debug_name(), e));
      return done(ok);
    }
  } else if (what.is_atom("true") || what.is_atom("false")) {
    return get().trace(what.is_atom("true")), done(ok);
  }
  return done(atom("unknown_debug"));
}

// {Fun, State} | {Id, Fun, State}. One that is there stays as it is; what is no
// fun fails at the first event, as it does in OTP.
term special_process::install(const term& what, const term& from) {
  const bool has_id = what.arity() == 3;
  if (what.kind() != kind::tuple || (what.arity() != 2 && !has_id))
    return atom("unknown_debug");
  const auto caller = from.element(0).as_pid();
  const std::size_t fun = has_id ? 1 : 0;
  if (!debug_)
    debug_ = std::make_unique<debug>();
  if (debug_->has_function(what.element(0)))
    return ok;
  const auto on = debug_->options().as_list();
  if (on && on->size() >= most_options)
    return atom("unknown_debug");
  debug_->install(std::make_unique<debug_function>(
      home(), caller ? caller->node : home().name(), what.element(0),
      what.element(fun), what.element(fun + 1), has_id));
  return ok;
}

// What sys calls the name: a gen_server's, or its pid.
term special_process::debug_name() const {
  const atom n = name();
  return n == atom() ? term(pid()) : term(n);
}

void special_process::debug_in(const term& message) {
  if (debug_ && debug_->in(message, debug_name()))
    print(debug::print(debug_name(), term::tuple({atom("in"), message})));
}

void special_process::debug_out(const term& message, const term& to) {
  if (debug_ && debug_->out(message, to, debug_name()))
    print(debug::print(debug_name(), term::tuple({atom("out"), message, to})));
}

// An io_request whose reply nobody waits for: it is to go to a pid that never
// was, so that it does not come back as data.
void special_process::print(const std::string& text) {
  const esp::pid to = leader();
  home().send_message(
      pid(), to,
      term::tuple({atom("io_request"), home().pid_of(0), home().make_ref(),
                   term::tuple({atom("put_chars"), atom("unicode"),
                                term::binary(text)})}));
}

} // namespace esp::otp
