// What dbg calls here: the process that brings events to its tracer, and what
// that is told to trace. See protocol.md, section 13, and dbg.erl.

#include "esp/process.hpp"

#include "net/address.hpp"
#include "node/pid_table.hpp"
#include "rpc/bif_trace.hpp"
#include "rpc/bifs.hpp"
#include "trace/ip_port.hpp"
#include "trace/relay.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>

namespace esp::served {

namespace {

// The free variables of a closure of module dbg. External format: 112, Size:32,
// Arity, Uniq:128, Index:32, NumFree:32, Module, OldIndex, OldUniq, Pid, the
// free variables.
std::vector<term> variables_of(const term& fun) {
  constexpr std::size_t fixed = 30, before = 4;
  const auto b = fun.bytes();
  if (b.size() < fixed + 1 || b[0] != std::byte{112})
    return {};
  const auto n = std::to_integer<unsigned char>(b[fixed - 1]);
  for (std::size_t i = fixed - 4; i + 1 < fixed; ++i)
    if (b[i] != std::byte{0})
      return {};
  std::vector<std::byte> parts{std::byte{131}, std::byte{104},
                               static_cast<std::byte>(before + n)};
  parts.insert(parts.end(), b.begin() + fixed, b.end());
  const auto t = term::decode(parts);
  if (!t || t->arity() != before + n || !t->element(0).is_atom("dbg"))
    return {};
  auto all = t->elements();
  all.erase(all.begin(), all.begin() + before);
  return all;
}

// [QueueSize, Port]: what dbg:trace_port(ip, _) makes.
struct port_wish {
  std::size_t queue;
  std::uint16_t port;
};
std::optional<port_wish> port_of(const term& fun) {
  constexpr std::int64_t longest_queue = 1'000'000;
  const auto free = variables_of(fun);
  if (free.size() != 2)
    return std::nullopt;
  const auto queue = free[0].as_integer(), port = free[1].as_integer();
  if (!queue || *queue < 0 || !port || *port < 0 || *port > 0xFFFF)
    return std::nullopt;
  return port_wish{static_cast<std::size_t>(std::min(*queue, longest_queue)),
                   static_cast<std::uint16_t>(*port)};
}

std::string own_address(const call_context& c) {
  const auto name = c.home.name().name();
  const auto found =
      net::resolve_now(std::string(name.substr(name.find('@') + 1)));
  return found && !found->empty() ? found->front() : std::string();
}

// The ports that are open, by the Erlang ports that they are known by.
class open_ports {
public:
  term fresh(const node::node& home) {
    return port{home.name(), ++last_, home.creation()};
  }
  void add(const term& name, std::uint16_t number) {
    const std::lock_guard guard(mutex_);
    numbers_[*name.as_port()] = number;
  }
  void erase(const term& name) {
    const std::lock_guard guard(mutex_);
    numbers_.erase(*name.as_port());
  }
  std::optional<std::uint16_t> find(const term& name) const {
    const auto p = name.as_port();
    const std::lock_guard guard(mutex_);
    const auto it = p ? numbers_.find(*p) : numbers_.end();
    return it == numbers_.end() ? std::nullopt : std::optional(it->second);
  }

private:
  std::atomic<std::uint64_t> last_{0};
  mutable std::mutex mutex_;
  std::map<port, std::uint16_t> numbers_;
};

using ports_ptr = std::shared_ptr<open_ports>;

// Known as long as it lives.
class known_tracer {
public:
  known_tracer(trace::table& traces, trace::tracer_ptr t)
      : traces_(traces), tracer_(std::move(t)) {
    traces_.add(tracer_);
  }
  known_tracer(const known_tracer&) = delete;
  known_tracer& operator=(const known_tracer&) = delete;
  ~known_tracer() { traces_.end(tracer_); }

private:
  trace::table& traces_;
  const trace::tracer_ptr tracer_;
};

// {started, Tracer}, or {started, Tracer, Session} to who has sessions: that is
// waited for, for ever if need be.
void say_started(call_context& c, trace::table& traces, const pid& dbg,
                 const trace::tracer_ptr& t, bool of_session) {
  static const atom started("started");
  if (!of_session)
    return esp::send(dbg, term::tuple({started, t->name()}));
  const auto s = std::make_shared<trace::session>();
  s->tracer = t;
  const term name = term::tuple({c.self.pid(), make_ref()});
  traces.add(name, s);
  esp::send(dbg, term::tuple({started, t->name(), name}));
}

term relay_to_port(call_context& c, trace::table& traces, open_ports& ports,
                   const pid& dbg, const port_wish& wish, bool of_session) {
  static const atom ok("ok"), started("started"), not_supported("not_supported");
  const term name = ports.fresh(c.home);
  trace::tracer::limits most;
  most.events = std::max<std::size_t>(wish.queue, 1);
  const auto open =
      trace::ip_port::open(own_address(c), wish.port, name, most);
  if (!open) {
    esp::send(dbg, of_session
                       ? term::tuple({started, self(), self()})
                       : term::tuple({started, self()}));
    esp::exit(term::tuple({not_supported, atom("port")}));
  }
  struct listed {
    open_ports& in;
    const term& name;
    ~listed() { in.erase(name); }
  } const entry{ports, name};
  ports.add(name, (*open)->port());
  const known_tracer known(traces, (*open)->events());
  say_started(c, traces, dbg, (*open)->events(), of_session);
  (void)esp::receive([](const term& m) {
    return m.is_tagged("EXIT", 3) || m.is_tagged("DOWN", 5);
  });
  return ok;
}

// Tracers that cannot be had are refused by an end that makes dbg forget the
// node, once it knows that this one has started.
term do_relay(call_context& c, trace::table& traces, open_ports& ports,
              const pid& dbg, const term& to, bool of_session) {
  static const atom started("started"), not_supported("not_supported"),
      process("process"), ok("ok");
  esp::trap_exit(true);
  (void)esp::monitor(dbg);
  const bool is_pair = to.kind() == kind::tuple && to.arity() == 2;
  const auto port = is_pair && to.element(0).is_atom("port")
                        ? port_of(to.element(1))
                        : std::nullopt;
  if (port)
    return relay_to_port(c, traces, ports, dbg, *port, of_session);
  const auto pid = to.as_pid();
  const term fun = is_pair && to.element(0).is_atom("process")
                       ? to.element(1)
                       : term();
  const bool is_handler = fun.kind() == kind::tuple && fun.arity() == 2
                          && fun.element(0).kind() == kind::fun;
  if (!pid && !is_handler) {
    esp::send(dbg, of_session ? term::tuple({started, self(), self()})
                              : term::tuple({started, self()}));
    esp::exit(
        term::tuple({not_supported, is_pair ? to.element(0) : term(process)}));
  }
  const auto t = trace::make_tracer(c.self);
  const known_tracer known(traces, t);
  if (pid)
    (void)esp::monitor(*pid);
  say_started(c, traces, dbg, t, of_session);
  if (pid)
    trace::relay_to_process(*t, *pid);
  else
    trace::relay_to_fun(*t, dbg.node, fun.element(0), fun.element(1));
  return ok;
}

// As to_pidspec/1 has it.
term erlang_trace(call_context& c, trace::table& traces,
                  const trace::session_ptr& s, const term& item,
                  const term& how, const term& flags) {
  static const atom no_proc("no_proc");
  static constexpr std::string_view words[] = {
      "all",           "ports",    "processes",      "new",
      "new_ports",     "existing", "existing_ports", "existing_processes",
      "new_processes"};
  term who = item;
  const auto name = item.as_atom();
  if (name
      && std::find(std::begin(words), std::end(words), name->name())
             == std::end(words)) {
    const auto p = c.home.whereis(*name);
    if (!p)
      return term::tuple({no_proc, item});
    who = p->pid();
  } else if (item.kind() == kind::pid ? process_of(c, item) == nullptr : !name) {
    return term::tuple({no_proc, item});
  }
  return set_flags(c, traces, s, who, how, flags);
}

term get_info(call_context& c, const trace::table& traces) {
  static const atom undefined("undefined");
  std::vector<term> all;
  for (const auto& p : c.home.table().all())
    if (const auto s = traces.state_of(p->number()); s.all != 0)
      all.push_back(term::tuple(
          {p->pid(),
           p->where_from() != nullptr ? p->where_from()->initial_call
                                      : term(undefined),
           trace::list_of(s.all)}));
  return term::list(all);
}

// Until what has happened is on its way to that tracer.
term deliver_and_flush(call_context& c, const trace::table& traces,
                       const term& name) {
  constexpr std::chrono::seconds patience{5};
  const auto t = traces.find(name);
  if (!t)
    badarg();
  const auto done = std::make_shared<std::atomic<bool>>(false);
  t->when_flushed([done, me = node::process_ptr(&c.self)] {
    done->store(true);
    me->kick();
  });
  c.self.block([&] { return done->load(); },
               node::process::clock::now() + patience);
  return term::list({integer(0)}); // a port's "flushed"
}

// Of what trace_ip_drv knows: `p` is the port that it listens to, `f` flushes.
term port_control(const open_ports& ports, arguments a) {
  const auto number = ports.find(a[0]);
  if (!number || !a[2].as_iodata())
    badarg();
  if (a[1].as_integer() == 'f')
    return term::list({integer(0)});
  if (a[1].as_integer() != 'p')
    badarg();
  const char answer[] = {0, static_cast<char>(*number >> 8),
                         static_cast<char>(*number & 0xFF)};
  return term::binary({answer, sizeof answer});
}

} // namespace

void add_dbg(function_table& t, trace::table& traces) {
  const auto ports = std::make_shared<open_ports>();
  t.add("dbg", "do_relay", 2, [&traces, ports](call_context& c, arguments a) {
    return do_relay(c, traces, *ports, pid_of(a[0]), a[1], false);
  });
  t.add("dbg", "do_relay", 3, [&traces, ports](call_context& c, arguments a) {
    return do_relay(c, traces, *ports, pid_of(a[1]), a[2], true);
  });
  t.add("dbg", "erlang_trace", 3, [&traces](call_context& c, arguments a) {
    return erlang_trace(c, traces, traces.common(), a[0], a[1], a[2]);
  });
  t.add("dbg", "erlang_trace", 4, [&traces](call_context& c, arguments a) {
    return erlang_trace(c, traces, session_of(traces, a[0]), a[1], a[2], a[3]);
  });
  t.add("dbg", "get_info", 0, [&traces](call_context& c, arguments) {
    return get_info(c, traces);
  });
  t.add("dbg", "deliver_and_flush", 1, [&traces](call_context& c, arguments a) {
    return deliver_and_flush(c, traces, a[0]);
  });
  t.add("dbg", "deliver_and_flush", 2, [&traces](call_context& c, arguments a) {
    return deliver_and_flush(c, traces, a[1]);
  });
  t.add("erlang", "port_control", 3, [ports](call_context&, arguments a) {
    return port_control(*ports, a);
  });
}

} // namespace esp::served
