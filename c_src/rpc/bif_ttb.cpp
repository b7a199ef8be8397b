// What ttb, and observer's Trace Overview with it, asks of observer_backend: a
// process that writes to the trace port what the trace is of.

#include "esp/process.hpp"

#include "node/pid_table.hpp"
#include "rpc/bifs.hpp"
#include "trace/table.hpp"

#include <string>

namespace esp::served {

namespace {

// As ttb_make_binary/1: one byte of size, which is that of {'$size', Size} if
// the size does not fit.
std::string written(const term& t) {
  constexpr std::size_t most = 255;
  const auto text_of = [](const term& one) {
    const auto b = one.encode();
    return std::string(reinterpret_cast<const char*>(b.data()), b.size());
  };
  const std::string text = text_of(t);
  if (text.size() <= most)
    return static_cast<char>(text.size()) + text;
  static const atom size("$size");
  const std::string before =
      text_of(term::tuple({size, integer(text.size())}));
  return static_cast<char>(before.size()) + before + text;
}

struct metadata {
  node::node& home;
  trace::tracer_ptr to;
  term file;

  void add(const term& t) const {
    static const atom tag("metadata");
    to->put(term::tuple({tag, file, term::binary(written(t))}));
  }
  // By what each is known: its name, or what it began with.
  void add_processes() const {
    static const atom tag("pid");
    for (const auto& p : home.table().all()) {
      if (p->name() == atom() && p->where_from() == nullptr)
        continue;
      add(term::tuple(
          {tag, term::tuple({p->pid(), p->name() != atom()
                                           ? term(p->name())
                                           : p->where_from()->initial_call})}));
    }
  }
};

// Until `stop`, or the end of ttb. Processes that have come since are named at
// the end, as long as they are there.
void keep(const metadata& out, const term& session, bool with_processes) {
  if (const auto control = [&]() -> std::optional<pid> {
        for (const term& t : session.as_list().value_or(std::vector<term>()))
          if (t.is_tagged("ttb_control", 2))
            return t.element(1).as_pid();
        return std::nullopt;
      }())
    (void)esp::monitor(*control);
  for (const term& t : session.as_list().value_or(std::vector<term>()))
    out.add(t);
  if (with_processes)
    out.add_processes();
  for (;;) {
    const auto m = *esp::receive([](const term&) { return true; });
    if (m.is_tagged("metadata", 3)) {
      out.add(term::tuple({m.element(1), m.element(2)}));
    } else if (m.is_atom("stop") || m.is_tagged("DOWN", 5)) {
      if (with_processes)
        out.add_processes();
      return;
    }
  }
}

term init_node(call_context& c, const trace::table& traces, arguments a) {
  static const atom ok("ok");
  // A file would be one of this machine's, which is not the shell's.
  const auto to = a[0].is_tagged("local", 3) ? traces.find(a[0].element(2))
                                             : nullptr;
  if (!to)
    badarg();
  const metadata out{c.home, to, a[0].element(1)};
  const bool with_processes = a[1].is_atom("true");
  const pid keeper = esp::spawn(
      [out, session = a[2], with_processes] {
        keep(out, session, with_processes);
      });
  return term::tuple({ok, a[0], keeper});
}

term stop(const pid& keeper) {
  static const atom stop_("stop"), ok("ok");
  const ref down = esp::monitor(keeper);
  esp::send(keeper, stop_);
  (void)esp::receive(
      [&](const term& m) { return m.element(1) == term(down); });
  return ok;
}

} // namespace

void add_ttb(function_table& t, trace::table& traces) {
  t.add("observer_backend", "ttb_init_node", 3,
        [&traces](call_context& c, arguments a) {
          return init_node(c, traces, a);
        });
  t.add("observer_backend", "ttb_write_trace_info", 3,
        [](call_context&, arguments a) -> term {
          static const atom metadata_("metadata"), ok("ok");
          esp::send(pid_of(a[0]), term::tuple({metadata_, a[1], a[2]}));
          return ok;
        });
  t.add("observer_backend", "ttb_stop", 1,
        [](call_context&, arguments a) { return stop(pid_of(a[0])); });
}

} // namespace esp::served
