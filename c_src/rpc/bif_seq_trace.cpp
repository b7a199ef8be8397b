// seq_trace's functions that are about a node: where the events of this one go.

#include "esp/process.hpp"

#include "rpc/bifs.hpp"

#include <memory>
#include <mutex>
#include <set>
#include <utility>

namespace esp::served {

namespace {

term name_of(const std::optional<pid>& tracer) {
  return tracer ? term(*tracer) : boolean(false);
}

// Those that a process waits for the end of: one for each, however often it is
// set.
struct watched_pids {
  std::mutex mutex;
  std::set<pid> all;
};
using watched_ptr = std::shared_ptr<watched_pids>;

// In `all` until it is done, or is no more.
class mark {
public:
  mark(watched_ptr in, const pid& of) : in_(std::move(in)), of_(of) {}
  mark(const mark&) = delete;
  mark& operator=(const mark&) = delete;
  ~mark() { done(); }
  void done() {
    if (const auto in = std::exchange(in_, nullptr)) {
      const std::lock_guard guard(in->mutex);
      in->all.erase(of_);
    }
  }

private:
  watched_ptr in_;
  const pid of_;
};

// Hears of the tracer's end, and with its node's of that of its connection.
void watch(node::node& home, const watched_ptr& watched, const pid& tracer) {
  {
    const std::lock_guard guard(watched->mutex);
    if (!watched->all.insert(tracer).second)
      return;
  }
  esp::spawn([&home, tracer, own = std::make_shared<mark>(watched, tracer)] {
    const ref r = esp::monitor(tracer);
    (void)esp::receive([&r](const term& m) {
      return m.is_tagged("DOWN", 5) && m.element(1).as_ref() == r;
    });
    own->done(); // who sets it from now on has it watched anew
    home.seq_trace().gone(tracer);
  });
}

// A pid of any node, since on this one there is nobody to look at events.
term set_system_tracer(call_context& c, const watched_ptr& watched,
                       arguments a) {
  auto& tracer = c.home.seq_trace();
  if (a[0].is_atom("false"))
    return name_of(tracer.set(std::nullopt));
  const pid to = pid_of(a[0]);
  const auto former = tracer.set(to);
  watch(c.home, watched, to);
  return name_of(former);
}

} // namespace

void add_seq_trace(function_table& t) {
  t.add("seq_trace", "set_system_tracer", 1,
        [watched = std::make_shared<watched_pids>()](call_context& c,
                                                     arguments a) {
          return set_system_tracer(c, watched, a);
        });
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
