#include "coop/builder.hpp"

#include <algorithm>
#include <utility>

namespace esp::coop {

namespace {

const atom ok("ok"), error_("error");

// What a worker may have underway to one node: it gives a few results, and
// there are many of them.
constexpr std::uint64_t worker_window = 4;

term list_of(const edge_counts& counts) {
  std::vector<term> all;
  for (const auto& [edge, n] : counts)
    all.push_back(term::tuple(
        {term::integer(edge), term::integer(static_cast<std::int64_t>(n))}));
  return term::list(all);
}

} // namespace

builder::builder(node::node& home, spec s)
    : home_(home),
      spec_(std::move(s)),
      limits_{spec_.max_queue, spec_.max_queue_bytes,
              new dead_letters(home, spec_.dead_letter)},
      entries_(spec_.entries()),
      last_tier_(spec_.last_tier()),
      in_(spec_.nodes.size()),
      out_(spec_.nodes.size()) {
  for (std::size_t k = 0; k < spec_.edges.size(); ++k) {
    const auto [from, to] = spec_.edges[k];
    out_[from].push_back(static_cast<std::uint32_t>(k + 1));
    in_[to].push_back(static_cast<std::uint32_t>(k + 1));
  }
}

void builder::begin(node::process& maker, const pid& parent) {
  parent_ = parent;
  group_leader_ = maker.leader();
  if (spec_.name != atom())
    if (const auto taken = home_.whereis(spec_.name))
      return fail(term::tuple({atom("already_started"), taken->pid()}));
  switch_ = home_.spawn<kill_switch>(spec_.restart, spec_.tasks);
  watch(maker, *switch_, atom("kill_switch"));
  places_.resize(spec_.nodes.size());
  switch_->adopt(spawn_members());
  switch_->set_parent(parent);
  switch_->set_origin(
      term::tuple({atom("coop_kill_switch"), atom("init"), term::integer(1)}),
      {parent});
  spawn_workers();
  of_parent_ = maker.monitor(parent, parent.node);
  for (std::size_t i = 0; i < places_.size(); ++i)
    initialise(i, maker);
}

builder::node_ptr builder::spawn_node(std::size_t i) {
  const auto& n = spec_.nodes[i];
  auto here = home_.spawn<coop_node>(
      n, limits_, switch_, spec_.restart.has_value(), n.used_by.has_value());
  auto& origin = origins_[{n.plugin_name, n.task_name}];
  if (!origin)
    origin = new node::origin(
        term::tuple({n.plugin_name, n.task_name, term::integer(2)}),
        {switch_->pid(), parent_});
  here->set_origin(origin);
  here->set_parent(switch_->pid());
  if (group_leader_ != home_.default_leader())
    here->receive_leader(group_leader_);
  return here;
}

builder::node_ptr builder::spawn_worker(std::size_t i) {
  auto w = spawn_node(i);
  if (!switch_->adopt(w))
    w->withdraw();
  return w;
}

std::vector<member_ptr> builder::spawn_members() {
  std::vector<member_ptr> members;
  for (std::size_t i = 0; i < places_.size(); ++i)
    if (spec_.nodes[i].is_native && !spec_.nodes[i].used_by) {
      places_[i].here = spawn_node(i);
      places_[i].p = places_[i].here->pid();
      members.push_back(places_[i].here);
    }
  left_ = members.size();
  return members;
}

// The first ones of each kind.
void builder::spawn_workers() {
  for (std::size_t i = 0; i < places_.size(); ++i) {
    const auto router = spec_.nodes[i].used_by;
    if (!router || !spec_.nodes[i].is_native)
      continue;
    auto& at = places_[i];
    const std::size_t n = spec_.nodes[*router].how.workers.initial;
    for (left_ += n; at.workers.size() < n;) {
      at.workers.push_back(spawn_worker(i));
      at.fresh.push_back(at.workers.back()->pid());
    }
  }
}

void builder::watch(node::process& maker, const node::process& p, atom name) {
  watched_.emplace(maker.monitor(p.pid(), home_.name()), name);
}

void builder::initialise(std::size_t i, node::process& maker) {
  if (places_[i].here)
    initialise(i, places_[i].here, maker);
  for (const auto& w : places_[i].workers)
    initialise(i, w, maker);
}

void builder::initialise(std::size_t i, const node_ptr& n,
                         node::process& maker) {
  watch(maker, *n, spec_.nodes[i].name);
  n->initialise(spec_.nodes[i].args, [to = node::process_ptr(&maker),
                                      who = n->pid(),
                                      i](std::optional<term> reason) {
    static const atom tag("$init");
    const term index = term::integer(static_cast<std::int64_t>(i));
    to->deliver(reason ? term::tuple({tag, who, index, *reason})
                       : term::tuple({tag, who, index}),
                std::nullopt);
  });
}

// The first node that fails, or ends, or the parent's end, is the failure of
// them all.
void builder::hear(node::process& maker, const term& t) {
  const auto about = [](const term& name, const term& reason) {
    return term::tuple({atom("init"), name, reason});
  };
  if (t.is_tagged("DOWN", 5)) {
    const auto r = t.element(1).as_ref();
    if (r == of_parent_)
      return fail(t.element(4));
    const auto which = r ? watched_.find(*r) : watched_.end();
    if (which == watched_.end())
      return;
    const atom name = which->second;
    watched_.erase(which);
    fail(about(name, t.element(4)));
    return;
  }
  // Late, or of a node whose successor is being made.
  const auto who = t.element(1).as_pid();
  const auto i =
      static_cast<std::size_t>(t.element(2).as_integer().value_or(-1));
  if (failure_ || !who || i >= places_.size()
      || (!spec_.nodes[i].used_by && places_[i].p != *who))
    return;
  if (t.arity() == 4)
    fail(about(spec_.nodes[i].name, t.element(3)));
  else if (--left_ == 0 && !head_ && spec_.head_is_native())
    make_head(maker);
}

void builder::make_head(node::process& maker) {
  head_ = home_.spawn<head>(limits_, spec_);
  limits_.beyond->set_head(head_->pid());
  head_->set_origin(
      term::tuple({atom("coop_head"), atom("init"), term::integer(1)}),
      {parent_});
  head_->set_parent(parent_);
  head_->receive_leader(maker.leader());
  if (spec_.name == atom() || home_.register_name(spec_.name, head_))
    return;
  watch(maker, *head_, atom("head"));
  const auto taken = home_.whereis(spec_.name);
  fail(term::tuple({atom("already_started"),
                    taken ? term(taken->pid()) : term(atom("undefined"))}));
}

void builder::fail(const term& reason) {
  if (failure_)
    return;
  failure_ = reason;
  if (is_again_)
    return;
  const term shutdown = atom("shutdown");
  if (switch_)
    switch_->end(shutdown);
  if (head_)
    head_->end(shutdown);
  for (const auto& p : places_) {
    if (p.here)
      p.here->end(shutdown);
    for (const auto& w : p.workers)
      w->end(shutdown);
  }
}

pid builder::start(std::shared_ptr<builder> self, const pid& parent) {
  switches_ = {switch_->pid()};
  const pid head_pid = head_->pid();
  connect(head_pid, parent);
  switch_->take_over(std::move(self));
  return head_pid;
}

term builder::prepared(std::shared_ptr<builder> self, const pid& other_switch) {
  std::vector<term> nodes;
  for (std::size_t i = 0; i < places_.size(); ++i)
    if (places_[i].here)
      nodes.push_back(term::tuple({spec_.nodes[i].name, places_[i].p}));
  switch_->link(other_switch);
  leader_ = other_switch;
  const term all = term::map(
      {{atom("switch"), switch_->pid()},
       {atom("head"), head_ ? term(head_->pid()) : term(atom("undefined"))},
       {atom("nodes"), term::list(nodes)},
       {atom("workers"), workers_here()}});
  switch_->take_over(std::move(self));
  return all;
}

term builder::workers_here() const {
  std::vector<term> all;
  for (std::size_t i = 0; i < places_.size(); ++i)
    if (!places_[i].workers.empty())
      all.push_back(
          term::tuple({spec_.nodes[i].name,
                       term::list(std::vector<term>(places_[i].fresh.begin(),
                                                    places_[i].fresh.end()))}));
  return term::list(all);
}

term builder::wire(const term& pids, const term& parent) {
  const auto bad = [](const char* what) {
    return term::tuple({error_, term::tuple({atom("bad_wire"), atom(what)})});
  };
  const auto head_pid =
      pids.get("head") ? pids.get("head")->as_pid() : std::nullopt;
  const auto other =
      pids.get("switch") ? pids.get("switch")->as_pid() : std::nullopt;
  const auto parent_pid = parent.as_pid();
  if (!head_pid || !other || !parent_pid)
    return bad("pids");
  if (is_connected_ && !is_again_)
    return bad("wired");
  if (auto wrong = read_pids(pids))
    return *wrong;
  other_switch_ = *other;
  if (!is_again_) {
    switches_ = {switch_->pid(), *other};
    connect(*head_pid, *parent_pid);
    return ok;
  }
  const auto held =
      pids.get("held") ? pids.get("held")->as_list() : std::nullopt;
  const auto after = pids.get("restarted").value_or(term());
  const auto losses_then =
      after.arity() == 2 ? losses::read(after.element(1)) : std::nullopt;
  if (!held || !losses_then)
    return bad("held");
  const auto count = [](const term& n) {
    return static_cast<std::uint64_t>(n.as_integer().value_or(0));
  };
  for (const term& h : *held) {
    const auto pair = h.elements();
    if (pair.size() != 2)
      return bad("held");
    carried_[static_cast<std::uint32_t>(count(pair[0]))] = count(pair[1]);
  }
  connect_nodes(*head_pid);
  connect_head(restart{after.element(0), *losses_then, named()});
  return ok;
}

// Of both homes: `nodes`, and the first workers of those by `consume`.
std::optional<term> builder::read_pids(const term& pids) {
  const auto bad =
      term::tuple({error_, term::tuple({atom("bad_wire"), atom("nodes")})});
  const auto nodes = pids.get("nodes").value_or(term()).as_list();
  const auto workers = pids.get("workers").value_or(term::list({})).as_list();
  if (!nodes || !workers)
    return bad;
  std::map<atom, std::size_t> by_name;
  for (std::size_t i = 0; i < places_.size(); ++i)
    by_name.emplace(spec_.nodes[i].name, i);
  const auto for_each = [&](const std::vector<term>& all, auto&& take) {
    return std::all_of(all.begin(), all.end(), [&](const term& one) {
      const auto pair = one.elements();
      const auto name = pair.size() == 2 ? pair[0].as_atom() : std::nullopt;
      const auto at = name ? by_name.find(*name) : by_name.end();
      return at != by_name.end() && take(places_[at->second], pair[1]);
    });
  };
  const bool is_good =
      for_each(*nodes,
               [](place& at, const term& t) {
                 const auto p = t.as_pid();
                 at.p = p.value_or(pid());
                 return p.has_value();
               })
      && for_each(*workers, [](place& at, const term& t) {
           const auto list = t.as_list();
           at.fresh.clear();
           for (const term& w : list.value_or(std::vector<term>()))
             at.fresh.push_back(w.as_pid().value_or(pid()));
           return list.has_value();
         });
  for (std::size_t i = 0; i < places_.size(); ++i)
    if (spec_.nodes[i].used_by ? places_[i].fresh.empty()
                               : places_[i].p.creation == 0)
      return bad;
  return is_good ? std::nullopt : std::optional<term>(bad);
}

// ---- Workers --------------------------------------------------------------

bool builder::has_workers() const {
  return std::any_of(
      spec_.nodes.begin(), spec_.nodes.end(),
      [](const node_spec& n) { return n.is_native && n.used_by; });
}

// Nothing that this looks at changes once the co-op is wired: each worker wires
// itself, on its own fiber, when it is initialised.
std::vector<term> builder::more_workers(std::shared_ptr<builder> self,
                                        const pid& router_pid,
                                        std::uint32_t edge) {
  std::vector<term> made;
  if (!is_connected_ || edge == 0 || edge > spec_.edges.size())
    return made; // a stranger's
  const auto [router, i] = spec_.edges[edge - 1];
  if (!spec_.nodes[i].is_native || spec_.nodes[i].used_by != router
      || places_[router].p != router_pid)
    return made;
  for (auto n = spec_.nodes[router].how.workers.replenish; n > 0; --n) {
    const auto w = spawn_worker(i);
    made.emplace_back(w->pid());
    w->initialise(spec_.nodes[i].args, [self, i, node = w.get()](
                                           std::optional<term> reason) {
      static const atom init("init");
      if (reason)
        node->end(term::tuple({init, self->spec_.nodes[i].name, *reason}));
      else
        node->wire(self->worker_wiring(i));
    });
  }
  return made;
}

std::unique_ptr<wiring> builder::worker_wiring(std::size_t i) const {
  auto w = base_wiring();
  const std::size_t router = *spec_.nodes[i].used_by;
  for (const std::uint32_t number : out_[router]) {
    in_edge in;
    in.number = in.sender_number = number;
    w->origin = late_origin{places_[router].p, number};
    w->in.push_back(std::move(in));
  }
  for (const std::uint32_t number : out_[i]) {
    const std::size_t to = spec_.edges[number - 1].second;
    out_edge e;
    e.number = e.own_number = switch_->next_edge(late_kind::worker);
    e.behind = number;
    e.window = std::min<std::uint64_t>(spec_.window, worker_window);
    e.target = spec_.nodes[to].base;
    e.to = places_[to].p;
    e.here = places_[to].here;
    w->out.push_back(std::move(e));
  }
  const auto& how = spec_.nodes[i].how;
  if (w->out.empty()) {
    w->of = facts_of_workers_;
  } else if (how.how != dataflow::method::broadcast) {
    w->how = std::make_unique<dispatch>(how, w->out, w->out.front().number);
  }
  return w;
}

worker_pool builder::pool_of(std::size_t router, std::size_t worker) const {
  worker_pool p;
  p.threshold = spec_.nodes[router].how.workers.threshold;
  p.most = spec_.window;
  p.supplier = spec_.nodes[worker].is_native ? switch_->pid() : other_switch_;
  p.fresh.assign(places_[worker].fresh.begin(), places_[worker].fresh.end());
  for (const std::uint32_t number : out_[worker])
    p.beyond.push_back({number, places_[spec_.edges[number - 1].second].p});
  return p;
}

// ---- Changes of code ------------------------------------------------------

std::vector<plugin::image_ptr> builder::images() const {
  std::vector<plugin::image_ptr> all;
  for (const auto& n : spec_.nodes)
    if (n.is_native
        && std::find(all.begin(), all.end(), n.task.from) == all.end())
      all.push_back(n.task.from);
  return all;
}

std::vector<std::pair<atom, atom>> builder::edges_here() const {
  std::vector<std::pair<atom, atom>> all;
  for (const auto& [from, to] : spec_.edges)
    if (spec_.nodes[from].is_native && spec_.nodes[to].is_native)
      all.emplace_back(spec_.nodes[from].name, spec_.nodes[to].name);
  return all;
}

bool builder::can_change_to(const plugin::image& image) const {
  return std::all_of(
      spec_.nodes.begin(), spec_.nodes.end(), [&](const node_spec& n) {
        return !n.is_native || n.plugin_name.name() != image.name()
               || (image.find(n.task_name.name()) != nullptr
                   && (n.how.by.task == nullptr
                       || image.find(n.how.by.task->name) != nullptr));
      });
}

// Workers that wire themselves meanwhile look at none of this.
void builder::change_to(const plugin::image_ptr& image) {
  for (auto& n : spec_.nodes) {
    if (!n.is_native || n.plugin_name.name() != image->name())
      continue;
    n.task = {image, image->find(n.task_name.name())};
    n.stack = std::max(n.stack, n.task.entry->options.stack);
    if (n.how.by.task != nullptr)
      n.how.by.task = image->find(n.how.by.task->name);
  }
}

// ---- Once more ------------------------------------------------------------

co_op builder::about() const {
  return {head_, spec_.name, is_led() ? std::optional(leader_) : std::nullopt};
}

std::uint64_t builder::waiting() const noexcept {
  std::uint64_t n = 0;
  for (const auto& lane : waiting_)
    for (const node::message* m = lane.front(); m != nullptr; m = m->next)
      ++n;
  return n;
}

bool builder::stop_entry() {
  if (head_)
    head_->stop_entry();
  return head_ != nullptr;
}

term builder::fallen() const {
  edge_counts all;
  for (const auto& p : places_)
    if (p.here)
      p.here->sent(all);
  return term::tuple({ok, list_of(all)});
}

void builder::begin_again(kill_switch& maker) {
  is_again_ = true;
  failure_.reset();
  watched_.clear();
  waiting_.resize(places_.size());
  for (std::size_t i = 0; i < places_.size(); ++i)
    if (auto& here = places_[i].here) {
      maker.count_delivered(here->delivered());
      waiting_[i].append(here->leave_behind());
      here = nullptr;
    }
  carried_.clear();
  for (auto& lane : waiting_)
    for (const node::message* m = lane.front(); m != nullptr; m = m->next)
      if (m->edge != node::no_edge)
        ++carried_[m->edge];
  maker.take_care_of(spawn_members());
  for (std::size_t i = 0; i < places_.size(); ++i)
    initialise(i, maker);
}

term builder::rebuilt(losses l) const {
  std::vector<term> nodes;
  for (std::size_t i = 0; i < places_.size(); ++i)
    if (places_[i].here)
      nodes.push_back(term::tuple({spec_.nodes[i].name, places_[i].p}));
  return term::tuple({ok, term::map({{atom("nodes"), term::list(nodes)},
                                     {atom("held"), list_of(carried_)},
                                     {atom("losses"), l.write()}})});
}

void builder::connect_again(const term& reason, losses l) {
  connect_nodes(head_->pid());
  connect_head(restart{reason, l, named()});
}

// ---- Wires ----------------------------------------------------------------

std::unique_ptr<wiring> builder::base_wiring() const {
  auto w = std::make_unique<wiring>();
  w->of = facts_;
  return w;
}

void builder::gather_facts(const pid& head_pid) {
  const auto gather = [&](std::uint64_t window) {
    auto* const f = new co_op_facts;
    f->receiver = spec_.receiver;
    f->tag = spec_.tag;
    f->batch = spec_.batch;
    f->last_tier = last_tier_;
    f->window = window;
    f->head = head_pid;
    return facts_ptr(f);
  };
  facts_ = gather(spec_.window);
  facts_of_workers_
      = gather(std::min<std::uint64_t>(spec_.window, worker_window));
}

boost::intrusive_ptr<local_link>
builder::link_between(std::uint32_t number, member_ptr from, member_ptr to) {
  if (!from || !to)
    return nullptr;
  auto& l = links_[number - 1];
  if (!l) {
    l = new local_link;
    l->sender = std::move(from);
    l->receiver = std::move(to);
  }
  return l;
}

// Edges are numbered by their place in the template, from 1; those from the
// head to the entry nodes follow.
void builder::connect(const pid& head_pid, const pid& parent) {
  limits_.beyond->set_head(head_pid);
  is_connected_ = true;
  connect_nodes(head_pid);
  if (!head_) {
    home_.send(dist::link{switch_->pid(), head_pid});
    switch_->receive_link(head_pid);
    links_.clear();
    return;
  }
  head_->set_switches(switches_);
  // The switch in this home needs no signal to be linked.
  head_->receive_link(switch_->pid());
  switch_->receive_link(head_pid);
  for (const auto& s : switches_)
    if (s != switch_->pid())
      head_->link(s);
  // Of a mixed co-op it was not known before: the VM's kill switch asked.
  head_->set_parent(parent);
  head_->link(parent);
  connect_head(std::nullopt);
}

std::unique_ptr<founding> builder::what_the_head_needs() const {
  auto f = std::make_unique<founding>();
  f->nodes = named();
  std::vector<term> edges;
  for (const auto& [from, to] : spec_.edges)
    edges.push_back(
        term::tuple({spec_.nodes[from].name, spec_.nodes[to].name}));
  f->edges = term::list(edges);
  if (spec_.receiver.what == receiver_spec::kind::demand)
    f->demand_of = spec_.receiver.to;
  if (spec_.restart)
    f->body = switch_;
  return f;
}

std::vector<std::pair<atom, pid>> builder::named() const {
  std::vector<std::pair<atom, pid>> nodes;
  for (std::size_t i = 0; i < places_.size(); ++i)
    if (!spec_.nodes[i].used_by)
      nodes.emplace_back(spec_.nodes[i].name, places_[i].p);
  return nodes;
}

void builder::connect_nodes(const pid& head_pid) {
  gather_facts(head_pid);
  links_.assign(spec_.edges.size() + entries_.size(), nullptr);
  for (std::size_t i = 0; i < places_.size(); ++i) {
    if (places_[i].here)
      connect_node(i, head_pid);
    for (const auto& w : std::exchange(places_[i].workers, {}))
      w->wire(worker_wiring(i));
  }
}

// Last: from then on data come.
void builder::connect_head(std::optional<restart> after) {
  if (head_) {
    auto w = base_wiring();
    for (std::size_t k = 0; k < entries_.size(); ++k) {
      out_edge e;
      e.number = e.own_number =
          static_cast<std::uint32_t>(spec_.edges.size() + k + 1);
      e.window = spec_.window;
      e.sent = carried_[e.number];
      e.target = spec_.nodes[entries_[k]].name;
      const auto& entry = places_[entries_[k]].here;
      e.here = entry;
      e.local = link_between(e.number, head_, entry);
      e.to = places_[entries_[k]].p;
      w->out.push_back(std::move(e));
    }
    if (!after) {
      w->first = what_the_head_needs();
      if (spec_.how.how != dataflow::method::broadcast)
        w->how = std::make_unique<dispatch>(spec_.how, w->out, head_->number(),
                                            entries_.size() / spec_.instances);
    }
    w->after = std::move(after);
    head_->wire(std::move(w));
  }
  links_.clear();
}

void builder::connect_node(std::size_t i, const pid& head_pid) {
  auto w = base_wiring();
  const auto& here = places_[i].here;
  const auto add_in = [&](std::uint32_t number, const member_ptr& from_here,
                          const pid& from) {
    in_edge e;
    e.number = e.sender_number = number;
    e.window = spec_.window;
    e.local = link_between(number, from_here, here);
    if (!e.local)
      e.from = from;
    w->in.push_back(std::move(e));
  };
  w->in.reserve(in_[i].size());
  for (const std::uint32_t number : in_[i]) {
    const std::size_t from = spec_.edges[number - 1].first;
    // In its workers' stead a router passes barriers on.
    const std::size_t sender = spec_.nodes[from].used_by.value_or(from);
    add_in(number, places_[sender].here, places_[sender].p);
  }
  w->out.reserve(out_[i].size());
  for (const std::uint32_t number : out_[i]) {
    const std::size_t to = spec_.edges[number - 1].second;
    out_edge e;
    e.number = e.own_number = number;
    e.target = spec_.nodes[to].base;
    if (spec_.nodes[to].used_by) {
      w->pool = pool_of(i, to);
      w->out.push_back(std::move(e));
      continue;
    }
    e.window = spec_.window;
    if (const auto c = carried_.find(number); c != carried_.end())
      e.sent = c->second;
    e.here = places_[to].here;
    e.local = link_between(number, here, places_[to].here);
    e.to = places_[to].p;
    w->out.push_back(std::move(e));
  }
  if (const auto at = std::lower_bound(entries_.begin(), entries_.end(), i);
      at != entries_.end() && *at == i)
    add_in(static_cast<std::uint32_t>(
               spec_.edges.size()
               + static_cast<std::size_t>(at - entries_.begin()) + 1),
           head_, head_pid);
  const auto& how = spec_.nodes[i].how;
  if (!w->out.empty() && how.how != dataflow::method::broadcast
      && how.how != dataflow::method::consume)
    w->how = std::make_unique<dispatch>(how, w->out, here->number());
  if (is_again_)
    w->left = std::move(waiting_[i]);
  here->wire(std::move(w));
}

} // namespace esp::coop
