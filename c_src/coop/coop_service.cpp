#include "coop/coop_service.hpp"

#include "base/log.hpp"
#include "coop/builder.hpp"
#include "node/spawned.hpp"

#include <algorithm>
#include <map>
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

std::vector<boost::intrusive_ptr<coop_node>> nodes_of(node::node& home,
                                                      atom plugin) {
  std::vector<boost::intrusive_ptr<coop_node>> found;
  for (const auto& p : home.table().all())
    if (auto* const n = dynamic_cast<coop_node*>(p.get());
        n != nullptr && (plugin == atom() || n->plugin_name() == plugin))
      found.emplace_back(n);
  return found;
}

term describe(std::string_view name, std::string_view version,
              const base::md5_digest& md5, const std::filesystem::path& file,
              const std::vector<term>& tasks, std::size_t processes,
              bool is_current, bool is_pinned) {
  const auto truth = [](bool b) { return atom(b ? "true" : "false"); };
  return term::map(
      {{atom("plugin"), atom(name)},
       {atom("vsn"), term::binary(version)},
       {atom("md5"),
        term::binary({reinterpret_cast<const char*>(md5.data()), md5.size()})},
       {atom("file"), term::binary(file.string())},
       {atom("tasks"), term::list(tasks)},
       {atom("processes"),
        term::integer(static_cast<std::int64_t>(processes))},
       {atom("current"), truth(is_current)},
       {atom("pinned"), truth(is_pinned)}});
}

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
    return home().reply(pid(), from, load(request.element(1), false));
  if (request.is_tagged("renew_plugin", 2))
    return home().reply(pid(), from, load(request.element(1), true));
  if (request.is_atom("images"))
    return home().reply(pid(), from, images());
  if (const auto plugin = request.arity() == 2 ? request.element(1).as_atom()
                                               : std::nullopt) {
    if (request.is_tagged("nodes_of_old", 2))
      return home().reply(pid(), from, nodes_of_old(*plugin));
    if (request.is_tagged("soft_purge", 2))
      return home().reply(pid(), from, soft_purge(*plugin));
    if (request.is_tagged("purge", 2))
      return home().reply(pid(), from, purge(*plugin));
    if (request.is_tagged("unload_plugin", 2))
      return home().reply(pid(), from,
                          atom(tasks_.unload(plugin->name()) ? "true"
                                                             : "false"));
  }
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

term coop_service::load(const term& file, bool if_new) {
  const auto path = file.as_iodata();
  if (!path)
    return error(atom("badarg"));
  const auto loaded = if_new ? tasks_.renew(*path) : tasks_.load(*path);
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

// Current ones, old ones that live, and those that cannot be unmapped.
term coop_service::images() const {
  std::map<const plugin::image*, std::size_t> users;
  for (const auto& n : nodes_of(home(), atom()))
    ++users[n->task().from.get()];
  std::vector<term> all;
  const auto add = [&](const plugin::image& i, bool is_current) {
    std::vector<term> tasks;
    for (const auto& t : i.tasks())
      tasks.emplace_back(atom(t.name));
    const auto n = users.find(&i);
    all.push_back(describe(i.name(), i.version(), i.md5(), i.file(), tasks,
                           n == users.end() ? 0 : n->second, is_current,
                           false));
  };
  for (const auto& i : tasks_.all())
    add(*i, true);
  for (const auto& i : tasks_.old())
    add(*i, false);
  for (const auto& r : plugin::image::pinned())
    all.push_back(
        describe(r.name, r.version, r.md5, r.file, {}, 0, false, true));
  return term::list(all);
}

// One for each co-op.
term coop_service::nodes_of_old(atom plugin) const {
  const auto current = tasks_.find(plugin.name());
  std::map<kill_switch*, term> found;
  for (const auto& n : nodes_of(home(), plugin))
    if (n->task().from != current)
      found.emplace(n->of(), n->pid());
  std::vector<term> all;
  for (const auto& [s, node] : found)
    all.push_back(node);
  return term::list(all);
}

term coop_service::soft_purge(atom plugin) const {
  const auto old = tasks_.old();
  const bool is_in_use = std::any_of(
      old.begin(), old.end(),
      [&](const auto& i) { return i->name() == plugin.name(); });
  return atom(is_in_use ? "false" : "true");
}

term coop_service::purge(atom plugin) const {
  static const atom kill("kill");
  const auto current = tasks_.find(plugin.name());
  bool any = false;
  for (const auto& n : nodes_of(home(), plugin))
    if (n->task().from != current) {
      n->of()->purge(plugin);
      n->end(kill);
      any = true;
    }
  return atom(any ? "true" : "false");
}

otp::answer coop_service::state() {
  return term::map({{atom("plugins"), plugins()}});
}

atom coop_service::module() const {
  static const atom m("erlangsp");
  return m;
}

} // namespace esp::coop
