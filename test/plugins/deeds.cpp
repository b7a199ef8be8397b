// Does what its datum says by the functions of esp/process.hpp, so that who
// traces it sees that done: see deed/1 of trace_SUITE, which does the same on
// an Erlang node. Counts what it did.

#include <esp/plugin.hpp>

#include <cstdint>
#include <stdexcept>

namespace {

using esp::term;

struct deeds {
  deeds() = default;
  explicit deeds(term) {}

  term operator()(term what) {
    ++done;
    if (what.is_tagged("spawn", 2))
      return spawned(what.element(1), false);
    if (what.is_tagged("spawn_link", 2))
      return spawned(what.element(1), true);
    if (what.is_tagged("link", 2))
      esp::link(*what.element(1).as_pid());
    else if (what.is_tagged("unlink", 2))
      esp::unlink(*what.element(1).as_pid());
    else if (what.is_tagged("register", 2))
      esp::register_name(*what.element(1).as_atom());
    else if (what.is_tagged("send", 3))
      esp::send(*what.element(1).as_pid(), what.element(2));
    else if (what.is_tagged("exit", 2))
      esp::exit(what.element(1));
    else if (what.is_tagged("error", 2))
      throw std::runtime_error("error");
    return what;
  }

  // A child that sends {child, self()} there, and ends with any message.
  static term spawned(const term& to, bool is_linked) {
    const auto body = [to] {
      esp::send(*to.as_pid(), term::tuple({esp::atom("child"), esp::self()}));
      (void)esp::receive([](const term&) { return true; });
    };
    return is_linked ? esp::spawn_link(body) : esp::spawn(body);
  }

  static constexpr auto fields() {
    return esp::fields(esp::field("done", &deeds::done));
  }
  std::int64_t done = 0;
};

// Two results, one result by name, none.
struct several {
  void operator()(std::int64_t n, esp::outlet& out) {
    for (std::int64_t i = 0; i < n; ++i)
      out.emit(i);
    if (n < 0)
      out.emit_to("next", -n);
  }
};

std::int64_t twice(std::int64_t x) {
  return 2 * x;
}

} // namespace

ESP_PLUGIN(deeds, "1.0.0") {
  plugin.task<deeds>("deed");
  plugin.task<several>("several");
  plugin.task("twice", twice);
}
