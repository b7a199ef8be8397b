#include "coop/spec.hpp"

#include <algorithm>
#include <limits>
#include <map>

namespace esp::coop {

namespace {

const atom undefined("undefined");

term bad_node(atom name, term cause) {
  return term::tuple({atom("bad_node"), name, std::move(cause)});
}
term bad_spec(const char* what) {
  return term::tuple({atom("bad_spec"), atom(what)});
}

std::optional<term> read_task(const term& t, node_spec& n,
                              const plugin::task_table& tasks) {
  const auto plugin_name = t.get("plugin"), task_name = t.get("task");
  if (!plugin_name || !task_name || !plugin_name->as_atom()
      || !task_name->as_atom())
    return bad_spec("task");
  n.plugin_name = *plugin_name->as_atom();
  n.task_name = *task_name->as_atom();
  n.task.from = tasks.find(n.plugin_name.name());
  if (!n.task.from)
    return bad_node(n.base, term::tuple({atom("no_plugin"), n.plugin_name}));
  n.task.entry = n.task.from->find(n.task_name.name());
  if (n.task.entry == nullptr)
    return bad_node(n.base,
                    term::tuple({atom("no_task"), n.plugin_name, n.task_name}));
  n.args = t.get("args").value_or(term(undefined));
  n.stack = n.task.entry->options.stack;
  if (const auto stack = t.get("stack")) {
    const auto bytes = stack->as_integer();
    if (!bytes || *bytes < 16'384 || *bytes > (std::int64_t{1} << 30))
      return bad_node(n.base, term::tuple({atom("bad_stack"), *stack}));
    n.stack = static_cast<std::size_t>(*bytes);
  }
  return std::nullopt;
}

std::optional<term> read_node(const term& t, node_spec& n,
                              const plugin::task_table& tasks) {
  const auto name = t.get("name"), home = t.get("home"),
             how = t.get("dataflow");
  if (!name || !name->as_atom() || !home || !how)
    return bad_spec("node");
  n.name = *name->as_atom();
  const term base = t.get("base").value_or(*name);
  if (!base.as_atom())
    return bad_spec("node");
  n.base = *base.as_atom();
  n.is_native = home->is_atom("native");
  if (n.is_native)
    if (auto wrong = read_task(t, n, tasks))
      return wrong;
  auto d = read_dataflow(*how, n.task);
  if (auto* const cause = std::get_if<term>(&d))
    return bad_node(n.base, *cause);
  n.how = std::move(std::get<dataflow>(d));
  if (n.how.by.task != nullptr)
    n.stack = std::max(n.stack, n.how.by.task->options.stack);
  return std::nullopt;
}

bool read_receiver(const term& t, receiver_spec& r) {
  if (t.is_atom("none"))
    return true;
  if (t.is_tagged("name", 3)) {
    const auto name = t.element(1).as_atom(), at = t.element(2).as_atom();
    if (!name || !at)
      return false;
    r = {receiver_spec::kind::name, {}, *name, *at};
    return true;
  }
  const auto p = t.arity() == 2 ? t.element(1).as_pid() : std::nullopt;
  if (!p)
    return false;
  r.to = *p;
  if (t.is_tagged("pid", 2))
    r.what = receiver_spec::kind::pid;
  else if (t.is_tagged("coop", 2))
    r.what = receiver_spec::kind::coop;
  else if (t.is_tagged("demand", 2))
    r.what = receiver_spec::kind::demand;
  return r.what != receiver_spec::kind::none;
}

bool read_overload(const term& t, overload_policy& p) {
  using kind = overload_policy::kind;
  if (t.is_tagged("sojourn", 2)) {
    const auto ms = t.element(1).as_integer().value_or(0);
    p = {kind::sojourn, static_cast<std::uint32_t>(ms)};
    return ms >= 1 && ms <= 0x7FFFFFFF;
  }
  const bool is_shed = t.is_atom("shed"), is_drop = t.is_atom("drop_oldest");
  p.how = is_shed ? kind::shed : is_drop ? kind::drop_oldest : kind::block;
  return is_shed || is_drop || t.is_atom("block");
}

template <class T>
bool read_count(const term& t, std::string_view key, T& into) {
  const auto v = t.get(key);
  if (!v)
    return true;
  const auto n = v->as_integer();
  if (!n || *n < 1 || *n > 0x7FFFFFFF)
    return false;
  into = static_cast<T>(*n);
  return true;
}

// none | {Intensity, Period}
bool read_restart(const term& t, std::optional<restart_limit>& limit) {
  if (t.is_atom("none"))
    return true;
  const auto intensity =
      t.arity() == 2 ? t.element(0).as_integer() : std::nullopt;
  const auto period = intensity ? t.element(1).as_integer() : std::nullopt;
  if (!period || *intensity < 0 || *period < 1)
    return false;
  limit = {static_cast<std::size_t>(*intensity),
           static_cast<std::uint32_t>(std::min<std::int64_t>(
               *period, std::numeric_limits<std::uint32_t>::max()))};
  return true;
}

// A router by `consume` has one kind of worker, which has no other use.
std::optional<term> find_workers(spec& s) {
  const auto needs = [&](std::size_t i, const char* what) {
    return bad_node(s.nodes[i].name,
                    term::tuple({atom("consume_needs"), atom(what)}));
  };
  for (std::size_t i = 0; i < s.nodes.size(); ++i) {
    if (s.nodes[i].how.how != dataflow::method::consume)
      continue;
    std::vector<std::size_t> workers;
    for (const auto& [from, to] : s.edges)
      if (from == i)
        workers.push_back(to);
    if (workers.size() != 1)
      return needs(i, "one_downstream");
    const std::size_t w = workers.front();
    if (std::count_if(s.edges.begin(), s.edges.end(),
                      [w](const auto& e) { return e.second == w; })
        != 1)
      return needs(w, "one_upstream");
    if (s.nodes[w].how.how == dataflow::method::consume)
      return needs(w, "other_dataflow");
    if (s.restart)
      return term::tuple({atom("unsupported"), atom("restart")});
    s.nodes[w].used_by = i;
  }
  return std::nullopt;
}

// The nodes of each instance follow those of the one before it, with as many
// entries among them, and no edge leads from one to another.
bool are_instances(const spec& s) {
  const auto entries = s.entries();
  if (entries.empty() || s.nodes.size() % s.instances != 0
      || entries.size() % s.instances != 0)
    return false;
  const std::size_t nodes = s.nodes.size() / s.instances,
                    width = entries.size() / s.instances;
  for (std::size_t i = 0; i < entries.size(); ++i)
    if (entries[i] / nodes != i / width)
      return false;
  return std::all_of(s.edges.begin(), s.edges.end(), [&](const auto& e) {
    return e.first / nodes == e.second / nodes;
  });
}

// How data are dealt out to them: by no names, and by no task, as a head has
// no plugin.
bool read_head_dataflow(const term& t, spec& s) {
  auto how = read_dataflow(t, {});
  if (std::holds_alternative<term>(how))
    return false;
  s.how = std::move(std::get<dataflow>(how));
  s.method = t;
  return s.how.how != dataflow::method::select
         && s.how.how != dataflow::method::consume;
}

} // namespace

std::variant<spec, term> read_spec(const term& t,
                                   const plugin::task_table& tasks) {
  spec s;
  const auto nodes = t.get("nodes"), edges = t.get("edges");
  const auto node_list = nodes ? nodes->as_list() : std::nullopt;
  const auto edge_list = edges ? edges->as_list() : std::nullopt;
  if (!node_list || node_list->empty() || !edge_list)
    return bad_spec("nodes");
  std::map<atom, std::size_t> places;
  for (const term& n : *node_list) {
    node_spec one;
    if (auto wrong = read_node(n, one, tasks))
      return *wrong;
    if (!places.emplace(one.name, s.nodes.size()).second)
      return term::tuple({atom("duplicate_node"), one.name});
    s.nodes.push_back(std::move(one));
  }
  for (const term& e : *edge_list) {
    if (e.kind() != kind::tuple || e.arity() != 2)
      return bad_spec("edges");
    std::size_t ends[2] = {};
    for (std::size_t i = 0; i < 2; ++i) {
      const auto place = places.find(e.element(i).as_atom().value_or(atom()));
      if (place == places.end())
        return term::tuple({atom("unknown_node"), e.element(i)});
      ends[i] = place->second;
    }
    s.edges.emplace_back(ends[0], ends[1]);
  }
  if (!read_count(t, "window", s.window)
      || !read_count(t, "max_queue", s.max_queue)
      || !read_count(t, "max_queue_bytes", s.max_queue_bytes))
    return bad_spec("limits");
  if (const auto name = t.get("name"); name && !name->is_atom("undefined")) {
    if (!name->as_atom())
      return bad_spec("name");
    s.name = *name->as_atom();
  }
  if (!read_receiver(t.get("receiver").value_or(term(atom("none"))),
                     s.receiver))
    return bad_spec("receiver");
  if (!read_receiver(t.get("dead_letter").value_or(term(atom("none"))),
                     s.dead_letter)
      || s.dead_letter.what == receiver_spec::kind::coop
      || s.dead_letter.what == receiver_spec::kind::demand)
    return bad_spec("dead_letter");
  if (!read_overload(t.get("overload").value_or(term(atom("block"))),
                     s.overload))
    return bad_spec("overload");
  if (!read_restart(t.get("restart").value_or(term(atom("none"))), s.restart))
    return bad_spec("restart");
  if (const auto tag = t.get("tag"); tag && tag->is_tagged("tag", 2))
    s.tag = tag->element(1);
  if (const auto batch = t.get("batch");
      batch && !batch->is_atom("none") && !read_count(t, "batch", s.batch))
    return bad_spec("batch");
  if (auto wrong = find_workers(s))
    return *wrong;
  if (!read_count(t, "instances", s.instances) || !are_instances(s))
    return bad_spec("instances");
  if (!read_head_dataflow(t.get("dataflow").value_or(s.method), s))
    return bad_spec("dataflow");
  const auto modules = t.get("modules").value_or(term()).as_list();
  for (const term& m : modules.value_or(std::vector<term>()))
    if (const auto name = m.as_atom())
      s.modules.push_back(*name);
  s.tasks = &tasks;
  for (const auto& [from, to] : s.edges) {
    const node_spec &f = s.nodes[from], &g = s.nodes[to];
    if (f.is_native && g.is_native && !f.task.entry->emits.empty()
        && !f.task.entry->emits.intersects(g.task.entry->accepts))
      return term::tuple({atom("type_mismatch"), f.base, g.base});
  }
  return s;
}

std::vector<std::size_t> spec::entries() const {
  std::vector<bool> has_in(nodes.size());
  for (const auto& [from, to] : edges)
    has_in[to] = true;
  std::vector<std::size_t> found;
  for (std::size_t i = 0; i < nodes.size(); ++i)
    if (!has_in[i])
      found.push_back(i);
  return found;
}

std::size_t spec::last_tier() const {
  std::vector<bool> has_out(nodes.size());
  for (const auto& [from, to] : edges)
    has_out[from] = true;
  return static_cast<std::size_t>(
      std::count(has_out.begin(), has_out.end(), false));
}

bool spec::has_vm() const {
  return std::any_of(nodes.begin(), nodes.end(),
                     [](const node_spec& n) { return !n.is_native; });
}

bool spec::head_is_native() const {
  const auto all = entries();
  return std::all_of(all.begin(), all.end(),
                     [this](std::size_t i) { return nodes[i].is_native; });
}

} // namespace esp::coop
