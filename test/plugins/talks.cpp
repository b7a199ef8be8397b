// A task that does what its datum says, by the functions of esp/process.hpp,
// and emits what came of it.

#include <esp/plugin.hpp>

#include <stdexcept>
#include <string>
#include <vector>

namespace {

esp::term outcome(const esp::result<esp::term>& r) {
  if (r)
    return esp::term::tuple({esp::atom("ok"), *r});
  return esp::term::tuple({esp::atom("error"), esp::atom(name(r.error().code)),
                           esp::term::binary(r.error().what)});
}

// {call, Pid, Request} | {rpc, Node, Fun, Args} | {log, Text} | {throw, Text}
// | {wait, Pid}: sends {waiting, self()} there and receives {go, X}
// | {spawn, Pid}: a child sends {from_child, self()} there | {print, Term}
esp::term talk(esp::term what) {
  const std::vector<esp::term> t = what.elements();
  if (what.is_tagged("call", 3))
    return outcome(esp::call(*t[1].as_pid(), t[2]));
  if (what.is_tagged("rpc", 4))
    return outcome(esp::rpc(*t[1].as_atom(), "erlang", "apply", {t[2], t[3]}));
  if (what.is_tagged("log", 2)) {
    esp::log(esp::level::notice, *t[1].as_binary());
    return esp::atom("logged");
  }
  if (what.is_tagged("throw", 2))
    throw std::runtime_error(std::string(*t[1].as_binary()));
  if (what.is_tagged("spawn", 2))
    return esp::spawn([to = *t[1].as_pid()] {
      esp::send(to, esp::term::tuple({esp::atom("from_child"), esp::self()}));
    });
  if (what.is_tagged("print", 2))
    return esp::atom(esp::seq_trace_print(t[1]) ? "true" : "false");
  if (what.is_tagged("wait", 2)) {
    esp::send(*t[1].as_pid(),
              esp::term::tuple({esp::atom("waiting"), esp::self()}));
    const auto m =
        esp::receive([](const esp::term& x) { return x.is_tagged("go", 2); });
    return m->element(1);
  }
  return what;
}

} // namespace

ESP_PLUGIN(talks, "1.0.0") {
  plugin.task("talk", talk);
}
