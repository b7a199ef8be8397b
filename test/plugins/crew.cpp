// Nodes that are made while their co-op runs. A `hand` answers each datum with
// {self(), Datum}; {exit, Reason} ends it so, {wait, Pid} tells Pid
// {waiting, self()} and answers with the Result of a {go, Result}. Made with
// `flushes` it answers a flush, too; {fail, What} cannot be made, and {slow,
// Pid} waits in its init for {go, _}. A `boss` does what it is told: {start,
// From, Name, Task, Args} sends From {started, {ok, Node} | {error, Text}},
// {to, Node, Datum} and {stop, Node} are about those, {quit, Reason} ends it,
// {head, From} sends From {head, Head}; all else is its result.

#include <esp/plugin.hpp>

#include <atomic>
#include <stdexcept>

namespace {

using esp::atom;
using esp::term;

void tell(const term& to, std::initializer_list<term> what) {
  esp::send(*to.as_pid(), term::tuple(what));
}

term wait_for_go(const term& who) {
  tell(who, {atom("waiting"), esp::self()});
  return esp::receive([](const term& m) { return m.is_tagged("go", 2); })
      ->element(1);
}

struct hand {
  explicit hand(term args) : flushes(args.is_atom("flushes")) {
    if (args.is_tagged("fail", 2))
      throw std::runtime_error("no hand");
    if (args.is_tagged("slow", 2))
      wait_for_go(args.element(1));
  }
  term operator()(term d) {
    if (d.is_tagged("exit", 2))
      esp::exit(d.element(1));
    if (d.is_tagged("wait", 2))
      return wait_for_go(d.element(1));
    return term::tuple({esp::self(), d});
  }
  void flush(esp::outlet& out) {
    if (flushes)
      out.emit(term::tuple({esp::self(), atom("flush")}));
  }
  bool flushes;
};

// Each third one cannot be made.
struct third_fails {
  explicit third_fails(term) {
    static std::atomic<int> made{0};
    if (made.fetch_add(1) % 3 == 2)
      throw std::runtime_error("third");
  }
  term operator()(term d) { return d; }
};

struct boss {
  explicit boss(term) {}
  void operator()(term d, esp::outlet& out) {
    if (d.is_tagged("start", 5)) {
      const auto made =
          esp::start_node(d.element(2).as_atom_name().value(),
                          d.element(3).as_atom_name().value(), d.element(4));
      tell(d.element(1),
           {atom("started"),
            made ? term::tuple({atom("ok"), *made})
                 : term::tuple(
                     {atom("error"), term::binary(made.error().what)})});
    } else if (d.is_tagged("to", 3)) {
      out.emit_to(*d.element(1).as_pid(), d.element(2));
    } else if (d.is_tagged("stop", 2)) {
      esp::stop_node(*d.element(1).as_pid());
    } else if (d.is_tagged("quit", 2)) {
      esp::exit(d.element(1));
    } else if (d.is_tagged("head", 2)) {
      tell(d.element(1), {atom("head"), esp::head()});
    } else {
      out.emit(d);
    }
  }
};

// Starts a hand at each flush, and sends it {wait, Pid}.
struct starts_at_flush {
  explicit starts_at_flush(term args) : pid(args) {}
  term operator()(term d) { return d; }
  void flush(esp::outlet& out) {
    if (const auto made = esp::start_node("late", "hand"))
      out.emit_to(*made, term::tuple({atom("wait"), pid}));
  }
  term pid;
};

} // namespace

ESP_PLUGIN(crew, "1.0.0") {
  plugin.task<hand>("hand");
  plugin.task<boss>("boss");
  plugin.task<starts_at_flush>("starts_at_flush");
  plugin.task<third_fails>("third_fails");
}
