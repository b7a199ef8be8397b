#include "trace/table.hpp"

#include "trace/stamp.hpp"

#include <algorithm>

namespace esp::trace {

namespace {

// An event that telling brings about, at a tracer that is a process of ours, is
// none.
thread_local bool is_telling = false;

} // namespace

// ---- Flags and patterns -----------------------------------------------------

bool table::change_locked(const session_ptr& s, node::process& p, bool on,
                          flags f, const tracer_ptr& t) {
  auto& [process, all] = traced_[p.number()];
  process = &p;
  auto mine = std::find_if(all.begin(), all.end(),
                           [&](const entry& e) { return e.of == s; });
  if (mine != all.end() && t && mine->to != t && mine->to->is_open())
    return false;
  if (on && f != 0) {
    if (mine == all.end())
      mine = all.insert(all.end(), entry{s, t, 0});
    mine->to = t;
    mine->on |= f;
  } else if (!on && mine != all.end()) {
    mine->on &= ~f;
    if (mine->on == 0)
      all.erase(mine);
  }
  p.set_traced(!all.empty());
  if (all.empty() || p.has_ended()) // whose end may not have seen it
    traced_.erase(p.number());
  note();
  return true;
}

bool table::set(const session_ptr& s, node::process& p, bool on, flags f,
                const tracer_ptr& t) {
  const std::lock_guard guard(mutex_);
  return change_locked(s, p, on, f, t);
}

void table::set_new(const session_ptr& s, bool on, flags f,
                    const tracer_ptr& t) {
  const std::lock_guard guard(mutex_);
  if (on) {
    s->of_new |= f;
    s->tracer_of_new = t;
    if (std::none_of(sessions_.begin(), sessions_.end(),
                     [&](const auto& known) { return known.lock() == s; }))
      sessions_.push_back(s);
  } else {
    s->of_new &= ~f;
    if (s->of_new == 0)
      s->tracer_of_new = nullptr;
  }
  note();
}

void table::set_pattern(const session_ptr& s, atom module, atom function,
                        bool is_local, const std::optional<call_pattern>& p) {
  const std::lock_guard guard(mutex_);
  const std::pair key(module, function);
  if (p) {
    s->calls.insert_or_assign(key, *p);
  } else if (const auto it = s->calls.find(key);
             it != s->calls.end() && it->second.is_local == is_local) {
    s->calls.erase(it);
  }
}

void table::set_messages(const session_ptr& s, bool is_send,
                         message_pattern p) {
  const std::lock_guard guard(mutex_);
  (is_send ? s->send : s->receive) = std::move(p);
}

void table::add(const tracer_ptr& t) {
  const std::lock_guard guard(mutex_);
  tracers_.insert_or_assign(t->name(), t);
}

tracer_ptr table::find(const term& name) const {
  const std::lock_guard guard(mutex_);
  const auto it = tracers_.find(name);
  return it == tracers_.end() ? nullptr : it->second;
}

void table::add(const term& name, const session_ptr& s) {
  const std::lock_guard guard(mutex_);
  named_.insert_or_assign(name, s);
}

session_ptr table::find_session(const term& name) const {
  const std::lock_guard guard(mutex_);
  const auto it = named_.find(name);
  return it == named_.end() ? nullptr : it->second;
}

void table::end(const tracer_ptr& t) {
  t->close();
  const std::lock_guard guard(mutex_);
  tracers_.erase(t->name());
  std::erase_if(named_, [&](const auto& n) { return n.second->tracer == t; });
  for (auto it = traced_.begin(); it != traced_.end();) {
    auto& [process, all] = it->second;
    std::erase_if(all, [&](const entry& e) { return e.to == t; });
    process->set_traced(!all.empty());
    it = all.empty() ? traced_.erase(it) : std::next(it);
  }
  for (const auto& known : sessions_)
    if (const auto s = known.lock(); s && s->tracer_of_new == t) {
      s->tracer_of_new = nullptr;
      s->of_new = 0;
    }
  note();
}

void table::note() {
  std::erase_if(sessions_, [](const auto& known) {
    const auto s = known.lock();
    return !s || s->of_new == 0;
  });
  on_.store(!traced_.empty() || !sessions_.empty(),
            std::memory_order_relaxed);
}

table::state table::state_of(std::uint64_t number) const {
  const std::lock_guard guard(mutex_);
  state s;
  if (const auto it = traced_.find(number); it != traced_.end())
    for (const entry& e : it->second.of) {
      s.all |= e.on;
      if (e.of == common_)
        s.tracer = e.to;
    }
  return s;
}

table::state table::state_of_new() const {
  const std::lock_guard guard(mutex_);
  return {common_->of_new, common_->tracer_of_new};
}

std::optional<call_pattern> table::pattern_of(atom module,
                                              atom function) const {
  const std::lock_guard guard(mutex_);
  const auto it = common_->calls.find({module, function});
  return it == common_->calls.end() ? std::nullopt : std::optional(it->second);
}

message_pattern table::messages(bool is_send) const {
  const std::lock_guard guard(mutex_);
  return is_send ? common_->send : common_->receive;
}

// ---- Telling -----------------------------------------------------------------

table::entries table::with(const node::process& p, flags f) const {
  const std::lock_guard guard(mutex_);
  const auto it = traced_.find(p.number());
  if (it == traced_.end() || is_telling)
    return {};
  entries found;
  for (const entry& e : it->second.of)
    if ((e.on & f) != 0 && e.to->name() != term(p.pid()))
      found.push_back(e);
  return found;
}

void table::tell(const node::process& p, const entry& e, std::string_view what,
                 std::span<const term> more) {
  static const atom trace("trace"), trace_ts("trace_ts");
  const auto time = stamp(e.on);
  std::vector<term> parts{time ? trace_ts : trace, p.pid(), atom(what)};
  parts.insert(parts.end(), more.begin(), more.end());
  if (time)
    parts.push_back(*time);
  is_telling = true;
  const bool is_told = e.to->put(term::tuple(parts));
  is_telling = false;
  if (!is_told)
    end(e.to);
}

void table::tell_all(const node::process& p, flags f, std::string_view what,
                     std::initializer_list<term> more) {
  for (const entry& e : with(p, f))
    tell(p, e, what, more);
}

void table::change(const session_ptr& s, std::uint64_t number, flags on,
                   flags off) {
  const std::lock_guard guard(mutex_);
  if (const auto it = traced_.find(number); it != traced_.end())
    for (entry& e : it->second.of)
      if (e.of == s)
        e.on = (e.on | on) & ~off;
}

void table::sent(node::process& by, const term& message, const term& to,
                 bool exists) {
  for (const entry& e : with(by, flag::send)) {
    message_pattern p;
    {
      const std::lock_guard guard(mutex_);
      p = e.of->send;
    }
    std::vector<term> parts{message, to};
    if (p.spec) {
      const auto v = p.spec->run({by.pid(), by.home().name()},
                                 term::list({to, message}), &control_word_);
      if (!v.is_told())
        continue;
      if (const auto x = v.extra())
        parts.push_back(*x);
    }
    if (p.is_told)
      tell(by, e, exists ? "send" : "send_to_non_existing_process", parts);
  }
}

void table::received(node::process& by, const term& message,
                     const std::optional<pid>& from) {
  static const atom undefined("undefined");
  for (const entry& e : with(by, flag::receive)) {
    message_pattern p;
    {
      const std::lock_guard guard(mutex_);
      p = e.of->receive;
    }
    std::vector<term> parts{message};
    if (p.spec) {
      const auto v = p.spec->run(
          {by.pid(), by.home().name()},
          term::list({from ? term(from->node) : term(by.home().name()),
                      from ? term(*from) : term(undefined), message}),
          &control_word_);
      if (!v.is_told())
        continue;
      if (const auto x = v.extra())
        parts.push_back(*x);
    }
    if (p.is_told)
      tell(by, e, "receive", parts);
  }
}

void table::scheduled(node::process& p, bool in) {
  const auto* const o = p.where_from();
  tell_all(p, flag::running, in ? "in" : "out",
           {o != nullptr ? o->initial_call : term::integer(0)});
}

void table::event(node::process& of, atom what, const term& about) {
  tell_all(of, flag::procs, what.name(), {about});
}

// ---- Processes that come and go ----------------------------------------------

void table::made(node::process& p, const pid& maker) {
  if (!p.may_be_traced())
    return;
  const auto parent = p.home().find(maker);
  {
    const std::lock_guard guard(mutex_);
    for (const auto& known : sessions_)
      if (const auto s = known.lock(); s && s->of_new != 0)
        change_locked(s, p, true, s->of_new, s->tracer_of_new);
  }
  // With an arity where the arguments would be: nobody knows them any more.
  const term mfa = p.where_from()->initial_call;
  if (parent && parent->is_traced()) {
    tell_all(*parent, flag::procs, "spawn", {p.pid(), mfa});
    inherit(*parent, p, flag::set_on_spawn, flag::set_on_first_spawn);
  }
  if (p.is_traced())
    tell_all(p, flag::procs, "spawned", {maker, mfa});
}

// What `from` has goes to `to`, once if it is only for the first.
void table::inherit(node::process& from, node::process& to, flags always,
                    flags first) {
  const std::lock_guard guard(mutex_);
  const auto it = traced_.find(from.number());
  if (it == traced_.end())
    return;
  const entries all = it->second.of;
  for (const entry& e : all) {
    if ((e.on & (always | first)) == 0)
      continue;
    const flags off = (e.on & first) != 0 ? always | first : 0;
    change_locked(e.of, to, true, e.on & ~off, e.to);
    if (off != 0)
      change_locked(e.of, from, false, off, e.to);
  }
}

void table::linked(node::process& from, const pid& to) {
  tell_all(from, flag::procs, "link", {to});
  const auto p = from.home().find(to);
  if (p && p->may_be_traced())
    inherit(from, *p, flag::set_on_link, flag::set_on_first_link);
}

void table::ended(node::process& p, const term& reason, atom name) {
  static const term none = term::integer(0);
  tell_all(p, flag::exiting, "out_exited", {none});
  tell_all(p, flag::procs, "exit", {reason});
  if (name != atom())
    tell_all(p, flag::procs, "unregister", {name});
  const std::lock_guard guard(mutex_);
  traced_.erase(p.number());
  p.set_traced(false);
  note();
}

// ---- Calls ---------------------------------------------------------------------

class call_in_progress final : public node::traced_call {
public:
  struct listener {
    table::entry to;
    bool returns, exceptions, is_local;
  };

  call_in_progress(table& of, node::process& by, term mfa)
      : of_(of), by_(by), mfa_(std::move(mfa)) {}

  void add(listener l) { listeners_.push_back(std::move(l)); }
  bool is_awaited() const noexcept { return !listeners_.empty(); }

  void returned(const std::function<term()>& value) override {
    std::optional<term> v;
    for (const auto& l : current())
      if (l.returns || l.exceptions) {
        if (!v)
          v = value();
        of_.tell(by_, l.to, "return_from", std::vector<term>{mfa_, *v});
      }
    returns_to();
  }
  void raised(atom how, const term& reason) override {
    for (const auto& l : current())
      if (l.exceptions)
        of_.tell(by_, l.to, "exception_from",
                 std::vector<term>{mfa_, term::tuple({how, reason})});
    returns_to();
  }

private:
  // Those that are still told of calls, with the flags that they have now.
  std::vector<listener> current() {
    std::vector<listener> still;
    for (const auto& now : of_.with(by_, flag::call))
      for (const auto& l : listeners_)
        if (l.to.of == now.of && (now.on & flag::silent) == 0)
          still.push_back({now, l.returns, l.exceptions, l.is_local});
    return still;
  }
  // No Erlang function has called it.
  void returns_to() {
    static const atom undefined("undefined");
    for (const auto& l : current())
      if (l.is_local && (l.to.on & flag::return_to) != 0)
        of_.tell(by_, l.to, "return_to", std::vector<term>{undefined});
  }

  table& of_;
  node::process& by_;
  const term mfa_;
  std::vector<listener> listeners_;
};

std::unique_ptr<node::traced_call>
table::called(node::process& by, atom module, atom function, std::size_t arity,
              const std::function<term()>& args) {
  const auto told = with(by, flag::call);
  if (told.empty())
    return nullptr;
  const auto n = term::integer(static_cast<std::int64_t>(arity));
  auto call = std::make_unique<call_in_progress>(
      *this, by, term::tuple({module, function, n}));
  std::optional<term> all;
  for (entry e : told) {
    std::optional<call_pattern> p;
    {
      const std::lock_guard guard(mutex_);
      if (const auto it = e.of->calls.find({module, function});
          it != e.of->calls.end())
        p = it->second;
    }
    if (!p)
      continue;
    if (!all)
      all = args();
    match::verdict v;
    v.matched = true;
    if (p->spec)
      v = p->spec->run({by.pid(), by.home().name()}, *all, &control_word_);
    if (v.silent) {
      change(e.of, by.number(), *v.silent ? flag::silent : 0,
             *v.silent ? 0 : flag::silent);
      e.on = *v.silent ? e.on | flag::silent : e.on & ~flag::silent;
    }
    if (!v.matched)
      continue;
    if (v.is_told() && (e.on & flag::silent) == 0) {
      std::vector<term> parts{term::tuple(
          {module, function, (e.on & flag::arity) != 0 ? n : *all})};
      if (const auto x = v.extra())
        parts.push_back(*x);
      tell(by, e, "call", parts);
    }
    if (v.return_trace || v.exception_trace
        || (p->is_local && (e.on & flag::return_to) != 0))
      call->add({e, v.return_trace, v.exception_trace, p->is_local});
  }
  if (!call->is_awaited())
    return nullptr;
  return call;
}

} // namespace esp::trace
