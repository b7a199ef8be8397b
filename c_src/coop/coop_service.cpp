#include "coop/coop_service.hpp"

#include "base/log.hpp"
#include "coop/builder.hpp"
#include "node/spawned.hpp"

namespace esp::coop {

namespace {

const atom ok("ok"), error_("error");

term error(term reason) { return term::tuple({error_, std::move(reason)}); }

term about(const plugin::image& i) {
  std::vector<term> tasks;
  for (const auto& t : i.tasks())
    tasks.emplace_back(atom(t.name));
  return term::tuple({atom(i.name()), term::binary(i.version()),
                      term::binary(i.file().string()), term::list(tasks)});
}

} // namespace

void coop_service::handle_data(node::message_ptr m) {
  const term t = m->value.to_term();
  if (is_debugged())
    debug_in(t);
  if (t.is_tagged("$gen_call", 3))
    return call(t.element(1), t.element(2));
  static base::log_limiter limiter;
  limiter.log(base::log_level::notice,
              "not understood by erlangsp: " + t.to_string(200));
}

std::optional<std::pair<node::message_ptr, node::lane>>
coop_service::accept_own(term message) {
  return data(std::move(message));
}

void coop_service::call(const term& from, const term& request) {
  const bool whole = request.is_tagged("start", 2);
  if (whole || request.is_tagged("prepare", 2)
      || request.is_tagged("check", 2)) {
    auto s = read_spec(request.element(1), tasks_);
    if (const auto* wrong = std::get_if<term>(&s))
      return home().reply(pid(), from, error(*wrong));
    if (request.is_tagged("check", 2))
      return home().reply(pid(), from, ok);
    if (whole && !std::get<spec>(s).head_is_native())
      return home().reply(pid(), from, error(atom("not_native")));
    return start(from, std::move(std::get<spec>(s)), whole);
  }
  if (request.is_tagged("load_plugin", 2))
    return home().reply(pid(), from, load(request.element(1)));
  if (request.is_atom("plugins"))
    return home().reply(pid(), from, plugins());
  home().reply(pid(), from,
               error(term::tuple({atom("unknown_request"), request})));
}

// Each start has a process of its own: a slow init keeps nobody else waiting.
void coop_service::start(const term& from, spec s, bool is_whole) {
  const auto caller = from.element(0).as_pid();
  if (!caller)
    return;
  const auto maker = home().spawn<node::spawned_process>(
      [&home = home(), from, parent = *caller, is_whole,
       b = std::make_shared<builder>(home(), std::move(s))] {
        node::process& me = *node::process::current();
        if (const auto wrong = b->create(me, parent))
          return home.reply(me.pid(), from, error(*wrong));
        home.reply(me.pid(), from,
                   term::tuple({ok, is_whole ? term(b->start(parent))
                                             : b->prepared(b, parent)}));
      },
      "co-op start");
  maker->receive_leader(leader());
  maker->kick();
}

term coop_service::load(const term& file) {
  const auto path = file.as_iodata();
  if (!path)
    return error(atom("badarg"));
  const auto loaded = tasks_.load(*path);
  if (!loaded)
    return error(term::tuple({atom(esp::name(loaded.error().code)),
                              term::binary(loaded.error().what)}));
  return term::tuple({ok, atom((*loaded)->name()),
                      term::binary((*loaded)->version())});
}

term coop_service::plugins() const {
  std::vector<term> all;
  for (const auto& i : tasks_.all())
    all.push_back(about(*i));
  return term::list(all);
}

otp::answer coop_service::state() {
  return term::map({{atom("plugins"), plugins()}});
}

atom coop_service::module() const {
  static const atom m("erlangsp");
  return m;
}

} // namespace esp::coop
