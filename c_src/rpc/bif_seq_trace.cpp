// seq_trace's functions that are about a node: where the events of this one go.

#include "esp/process.hpp"

#include "rpc/bifs.hpp"

namespace esp::served {

namespace {

term name_of(const std::optional<pid>& tracer) {
  return tracer ? term(*tracer) : boolean(false);
}

// Hears of the tracer's end, and with its node's of that of its connection.
void watch(node::node& home, const pid& tracer) {
  esp::spawn([&home, tracer] {
    const ref r = esp::monitor(tracer);
    (void)esp::receive([&r](const term& m) {
      return m.is_tagged("DOWN", 5) && m.element(1).as_ref() == r;
    });
    home.seq_trace().gone(tracer);
  });
}

// A pid of any node, since on this one there is nobody to look at events.
term set_system_tracer(call_context& c, arguments a) {
  auto& tracer = c.home.seq_trace();
  if (a[0].is_atom("false"))
    return name_of(tracer.set(std::nullopt));
  const pid to = pid_of(a[0]);
  const auto former = tracer.set(to);
  if (former != to)
    watch(c.home, to);
  return name_of(former);
}

} // namespace

void add_seq_trace(function_table& t) {
  t.add("seq_trace", "set_system_tracer", 1, set_system_tracer);
  t.add(
      "seq_trace", "get_system_tracer", 0,
      [](call_context& c, arguments) {
        return name_of(c.home.seq_trace().get());
      },
      effect::looks);
  t.add("seq_trace", "reset_trace", 0, [](call_context& c, arguments) {
    c.home.seq_trace().reset();
    return boolean(true);
  });
}

} // namespace esp::served
