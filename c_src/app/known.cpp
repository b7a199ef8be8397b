#include "app/known.hpp"

#include "coop/coop_node.hpp"
#include "coop/head.hpp"
#include "coop/kill_switch.hpp"
#include "node/pid_table.hpp"
#include "node/remote_call.hpp"
#include "node/spawned.hpp"

#include <algorithm>
#include <deque>
#include <set>
#include <unordered_map>
#include <unordered_set>

namespace esp::app {

namespace {

using node::process;
using node::process_ptr;

// None of those asked ever blocks; one that is stuck is shown by itself.
constexpr milliseconds patience{1'000};

std::vector<served::loaded_module> modules(const plugin::task_table& tasks) {
  static const term preloaded = atom("preloaded");
  std::vector<served::loaded_module> all;
  for (const char* name : {"coop_head", "coop_kill_switch", "erlangsp"})
    all.push_back({atom(name), preloaded, {}});
  for (const auto& image : tasks.all())
    all.push_back({atom(image->name()), term::string(image->file().string()),
                   image->version()});
  return all;
}

// Of all images: processes may run old ones.
std::vector<served::task_name> task_names(const plugin::task_table& tasks) {
  std::set<served::task_name> names;
  auto images = tasks.all();
  for (const auto& old : tasks.old())
    images.push_back(old);
  for (const auto& image : images)
    for (const auto& t : image->tasks())
      names.emplace(atom(image->name()), atom(t.name));
  return {names.begin(), names.end()};
}

std::vector<term> list_in(const term& map, std::string_view key) {
  return map.get(key).value_or(term()).as_list().value_or(std::vector<term>());
}

std::string text_of(const term& name) {
  const auto a = name.as_atom();
  return a ? std::string(a->name()) : name.to_string();
}

// The service, below it the servers and the co-ops: a head, its kill switches,
// and the nodes along their edges, the first way to each in the tree. What was
// started by one of them is below that. Calls of functions are left out: they
// come and go.
class tree_of_processes {
public:
  explicit tree_of_processes(node::node& home) : home_(home) {}

  served::process_tree make() {
    const auto root = home_.whereis(atom("erlangsp"));
    if (!root)
      return {};
    add(*root, "erlangsp");
    auto all = home_.table().all();
    std::sort(all.begin(), all.end(),
              [](const process_ptr& a, const process_ptr& b) {
                return a->number() < b->number(); // makers before the made
              });
    std::erase_if(all, [](const process_ptr& p) { return !p->is_alive(); });
    for (const auto& p : all)
      if (const auto* h = dynamic_cast<const coop::head*>(p.get()))
        add_co_op(*h);
    for (const auto& p : all)
      if (dynamic_cast<const coop::kill_switch*>(p.get()) != nullptr
          && !has(p->pid()))
        add_switch(*p);
    for (const auto& p : all)
      if (!has(p->pid()))
        add_other(*p);
    return std::move(tree_);
  }

private:
  bool has(const pid& p) const { return places_.contains(p); }

  std::size_t add(const process& p, std::string_view role) {
    return add(p.pid(), p.name() != atom() ? p.name().name() : role,
               p.name() != atom());
  }
  // A name is of one process; anything else needs the pid to be so.
  std::size_t add(const pid& p, std::string_view role, bool is_name = false) {
    std::string text(role);
    if (!is_name)
      text += " <0." + std::to_string(p.id) + "." + std::to_string(p.serial)
              + ">";
    if (p.node != home_.name())
      text += " " + std::string(p.node.name());
    const std::size_t place = tree_.processes.size();
    places_.emplace(p, place);
    tree_.processes.push_back({p, std::move(text)});
    return place;
  }
  void hang(std::size_t below, const pid& p, std::string_view role) {
    if (const auto there = places_.find(p); there != places_.end())
      tree_.across.emplace_back(below, there->second);
    else
      tree_.links.emplace_back(below, add(p, role));
  }
  void hang(std::size_t below, const process& p, std::string_view role) {
    tree_.links.emplace_back(below, add(p, role));
  }

  void add_co_op(const coop::head& h) {
    static const atom coop_("$coop"), info_("info");
    const std::size_t head = tree_.processes.size();
    hang(0, h, "head");
    const auto info =
        node::gen_call(coop_, h.pid(), info_, patience).reply.value_or(term());
    for (const term& s : list_in(info, "switches"))
      if (const auto p = s.as_pid())
        hang(head, *p, "kill switch");
    std::unordered_map<term, pid> pids;
    std::unordered_map<term, std::vector<term>> next;
    std::unordered_set<term> behind;
    for (const term& n : list_in(info, "nodes"))
      if (const auto p = n.element(1).as_pid())
        pids.emplace(n.element(0), *p);
    for (const term& e : list_in(info, "edges")) {
      next[e.element(0)].push_back(e.element(1));
      behind.insert(e.element(1));
    }
    std::deque<term> to_do;
    const auto reach = [&](std::size_t from, const term& name) {
      const auto p = pids.find(name);
      if (p == pids.end())
        return;
      if (!has(p->second))
        to_do.push_back(name);
      hang(from, p->second, text_of(name));
    };
    for (const term& n : list_in(info, "nodes"))
      if (!behind.contains(n.element(0)))
        reach(head, n.element(0));
    for (; !to_do.empty(); to_do.pop_front()) {
      const std::size_t from = places_.at(pids.at(to_do.front()));
      for (const term& name : next[to_do.front()])
        reach(from, name);
    }
  }

  // Of a co-op whose head is on a VM.
  void add_switch(const process& s) {
    static const atom system("system"), get_state("get_state");
    const std::size_t place = tree_.processes.size();
    hang(0, s, "kill switch");
    const auto state =
        node::gen_call(system, s.pid(), get_state, patience).reply;
    for (const term& n : list_in(state.value_or(term()), "nodes"))
      if (const auto p = n.element(1).as_pid())
        hang(place, *p, text_of(n.element(0)));
  }

  // The last of its ancestors that is there made it; servers have none.
  void add_other(const process& p) {
    const bool was_called =
        dynamic_cast<const node::spawned_process*>(&p) != nullptr;
    std::optional<std::size_t> below;
    if (const auto* o = p.where_from())
      for (const term& a : o->ancestors)
        if (const auto maker = a.as_pid(); maker && has(*maker))
          below = places_.at(*maker);
    if (!below && was_called)
      return;
    const auto* m = dynamic_cast<const coop::member*>(&p);
    hang(below.value_or(0), p,
         m != nullptr ? m->name_in_template().name() : p.what_it_does());
  }

  node::node& home_;
  served::process_tree tree_;
  std::unordered_map<pid, std::size_t> places_;
};

} // namespace

served::knowledge knowledge_of(plugin::task_table& tasks) {
  return {[&tasks] { return modules(tasks); },
          [](node::node& home) { return tree_of_processes(home).make(); },
          [&tasks] { return task_names(tasks); }};
}

} // namespace esp::app
