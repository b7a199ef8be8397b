#include "coop/coop_service.hpp"

#include "base/log.hpp"
#include "coop/builder.hpp"
#include "node/spawned.hpp"

#include <memory>
#include <utility>

namespace esp::coop {

namespace {

const atom ok("ok"), error_("error");

term error(term reason) {
  return term::tuple({error_, std::move(reason)});
}

// One start under way.
class maker final : public node::process {
public:
  maker(node::node& home, std::uint64_t number, term from,
        const esp::pid& caller, bool is_whole, std::shared_ptr<builder> b)
      : process(home, number),
        from_(std::move(from)),
        caller_(caller),
        is_whole_(is_whole),
        builder_(std::move(b)) {}

protected:
  void handle_control(node::message&) override {}
  void handle_data(node::message_ptr m) override {
    const term t = m->value.to_term();
    step([&] { builder_->hear(*this, t); });
  }
  // Asked in each run; the first is the beginning.
  bool can_take_data() override {
    if (!std::exchange(has_begun_, true))
      step([&] { builder_->begin(*this, caller_); });
    return is_alive();
  }
  // The nodes, which it has, may have it still.
  void ended(const term&) override { builder_.reset(); }
  std::string doing() const override { return "co-op start"; }

private:
  template <class F>
  void step(F&& f) {
    try {
      f();
    } catch (...) { // no room for so many processes
      builder_->fail(node::reason_of_current_exception());
    }
    if (!builder_->is_done())
      return;
    if (const auto& wrong = builder_->failure())
      home().reply(pid(), from_, error(*wrong));
    else
      home().reply(
          pid(), from_,
          term::tuple({ok, is_whole_ ? term(builder_->start(builder_, caller_))
                                     : builder_->prepared(builder_, caller_)}));
    finish(atom("normal"));
  }

  const term from_;
  const esp::pid caller_;
  const bool is_whole_;
  std::shared_ptr<builder> builder_;
  bool has_begun_ = false;
};

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
  const auto m = home().spawn<maker>(
      from, *caller, is_whole, std::make_shared<builder>(home(), std::move(s)));
  m->receive_leader(leader());
  m->kick();
}

term coop_service::load(const term& file) {
  const auto path = file.as_iodata();
  if (!path)
    return error(atom("badarg"));
  const auto loaded = tasks_.load(*path);
  if (!loaded)
    return error(term::tuple({atom(esp::name(loaded.error().code)),
                              term::binary(loaded.error().what)}));
  return term::tuple(
      {ok, atom((*loaded)->name()), term::binary((*loaded)->version())});
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
