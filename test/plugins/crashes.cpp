// Tasks that end by exceptions from where the test knows, and tasks that log.

#include <esp/plugin.hpp>

#include <stdexcept>
#include <string>
#include <vector>

namespace {

[[gnu::noinline]] int inner(const std::string& how, int n) {
  if (how == "at")
    return std::vector<int>().at(static_cast<std::size_t>(n)); // at
  if (how == "int")
    throw n; // int
  throw std::runtime_error(how); // throw
}

[[gnu::noinline]] int again(const std::string& how) {
  try {
    return inner(how, 1);
  } catch (const std::exception&) {
    throw;
  }
}

[[gnu::noinline]] int deep(int n) {
  volatile int one = 1; // no loop can be made of it
  return n == 0 ? inner("deep", 0) : deep(n - 1) + one;
}

// at, int, throw, again, deep, linked: how it ends. {spawn, Pid}: a process that is
// linked to nobody does. {wait, Pid}: it says so there, waits for `go` and ends.
struct crash {
  esp::term operator()(esp::term d) {
    if (d.is_tagged("spawn", 2)) {
      const auto to = *d.element(1).as_pid();
      const auto p = esp::spawn([] { inner("spawned", 0); });
      esp::send(to, p);
      return d;
    }
    if (d.is_tagged("wait", 2)) {
      esp::send(*d.element(1).as_pid(), esp::self());
      (void)esp::receive([](const esp::term& t) { return t.is_atom("go"); });
      throw std::runtime_error("waited");
    }
    const std::string how(*d.as_atom_name());
    if (how == "again")
      return esp::term::integer(again(how));
    if (how == "linked")
      esp::spawn_link([] {
        (void)esp::receive([](const esp::term&) { return false; });
      });
    if (how == "deep")
      return esp::term::integer(deep(200));
    return esp::term::integer(inner(how, 3)); // called
  }
};

// {Level, What, Metadata}: What is a text or a report; the only pair of the
// metadata is {domain, D}, or {k, V}. The answer says whether it is logged at
// all.
esp::term say(esp::term d) {
  static constexpr const char* names[] = {"debug",   "info",  "notice",
                                          "warning", "error", "critical",
                                          "alert",   "emergency"};
  int l = 0;
  while (!d.element(0).is_atom(names[l]))
    ++l;
  const auto level = static_cast<esp::level>(l);
  const esp::term what = d.element(1), more = d.element(2);
  if (const auto text = what.as_binary()) {
    if (more.is_tagged("domain", 2))
      esp::log(level, *text, {{"domain", more.element(1)}});
    else if (more.is_tagged("k", 2))
      esp::log(level, *text, {{"k", more.element(1)}, {"pid", more}});
    else
      esp::log(level, *text); // said
  } else {
    esp::log(level, what);
  }
  return esp::atom(esp::is_logged(level) ? "true" : "false");
}

} // namespace

ESP_PLUGIN(crashes, "1.0.0") {
  plugin.task<crash>("crash");
  plugin.task("say", say);
}
