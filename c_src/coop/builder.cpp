#include "coop/builder.hpp"

#include <algorithm>

namespace esp::coop {

namespace {

const atom ok("ok"), error_("error");

} // namespace

std::optional<term> builder::create(node::process& maker, const pid& parent) {
  if (spec_.name != atom())
    if (const auto taken = home_.whereis(spec_.name))
      return term::tuple({atom("already_started"), taken->pid()});
  switch_ = home_.spawn<kill_switch>();
  places_.resize(spec_.nodes.size());
  std::vector<member_ptr> members;
  static const atom module("coop_node");
  for (std::size_t i = 0; i < spec_.nodes.size(); ++i) {
    const auto& n = spec_.nodes[i];
    if (!n.is_native)
      continue;
    auto& here = places_[i].here
        = home_.spawn<coop_node>(n, spec_.max_queue);
    places_[i].p = here->pid();
    here->set_origin({term::tuple({n.plugin_name, n.task_name,
                                   term::integer(2)}),
                      {switch_->pid(), parent}});
    here->set_parent(switch_->pid());
    here->receive_leader(maker.leader());
    here->join(switch_);
    members.push_back(here);
  }
  switch_->take_care_of(members);
  switch_->set_parent(parent);
  switch_->set_origin({term::tuple({atom("coop_kill_switch"), atom("init"),
                                    term::integer(1)}),
                       {parent}});
  static const atom tag("$init");
  for (const auto& m : members) {
    const node::process_ptr to(&maker);
    static_cast<coop_node&>(*m).initialise(
        spec_.nodes[static_cast<std::size_t>(
                        std::find_if(places_.begin(), places_.end(),
                                     [&](const place& p) {
                                       return p.here.get() == m.get();
                                     })
                        - places_.begin())]
            .args,
        [to, name = m->name_in_template()](std::optional<term> reason) {
          to->deliver(reason ? term::tuple({tag, name, *reason})
                             : term::tuple({tag, name}),
                      std::nullopt);
        });
  }
  std::optional<term> failure;
  for (std::size_t i = 0; i < members.size(); ++i) {
    const auto r = maker.receive(
        [](const term& t) {
          return t.is_tagged("$init", 2) || t.is_tagged("$init", 3);
        },
        node::process::clock::time_point::max());
    if (r && r->arity() == 3 && !failure)
      failure = term::tuple({atom("init"), r->element(1), r->element(2)});
  }
  if (failure) {
    const ref gone
        = maker.monitor(switch_->pid(), home_.name());
    switch_->end(term(atom("shutdown")));
    maker.receive(
        [&](const term& t) {
          return t.is_tagged("DOWN", 5) && t.element(1).as_ref() == gone;
        },
        node::process::clock::time_point::max());
    return failure;
  }
  if (spec_.head_is_native()) {
    head_ = home_.spawn<head>(atom("head"), spec_.max_queue);
    head_->set_origin({term::tuple({atom("coop_head"), atom("init"),
                                    term::integer(1)}),
                       {parent}});
    head_->set_parent(parent);
    head_->receive_leader(maker.leader());
    if (spec_.name != atom() && !home_.register_name(spec_.name, head_)) {
      const auto taken = home_.whereis(spec_.name);
      switch_->end(term(atom("shutdown")));
      head_->end(term(atom("shutdown")));
      return term::tuple({atom("already_started"),
                          taken ? term(taken->pid()) : term(atom("undefined"))});
    }
  }
  return std::nullopt;
}

pid builder::start(const pid& parent) {
  switches_ = {switch_->pid()};
  connect(head_->pid(), parent);
  return head_->pid();
}

term builder::prepared(std::shared_ptr<builder> self,
                       const pid& other_switch) {
  std::vector<term> nodes;
  for (std::size_t i = 0; i < places_.size(); ++i)
    if (places_[i].here)
      nodes.push_back(term::tuple({spec_.nodes[i].name, places_[i].p}));
  switch_->keep(std::move(self));
  switch_->link(other_switch);
  return term::map(
      {{atom("switch"), switch_->pid()},
       {atom("head"), head_ ? term(head_->pid()) : term(atom("undefined"))},
       {atom("nodes"), term::list(nodes)}});
}

term builder::wire(const term& pids, const term& parent) {
  const auto bad = [](const char* what) {
    return term::tuple(
        {error_, term::tuple({atom("bad_wire"), atom(what)})});
  };
  const auto head_pid = pids.get("head") ? pids.get("head")->as_pid()
                                         : std::nullopt;
  const auto other = pids.get("switch") ? pids.get("switch")->as_pid()
                                        : std::nullopt;
  const auto nodes = pids.get("nodes") ? pids.get("nodes")->as_list()
                                       : std::nullopt;
  const auto parent_pid = parent.as_pid();
  if (!head_pid || !other || !nodes || !parent_pid)
    return bad("pids");
  for (const term& n : *nodes) {
    const auto name = n.arity() == 2 ? n.element(0).as_atom() : std::nullopt;
    const auto p = n.arity() == 2 ? n.element(1).as_pid() : std::nullopt;
    if (!name || !p)
      return bad("nodes");
    for (std::size_t i = 0; i < places_.size(); ++i)
      if (spec_.nodes[i].name == *name)
        places_[i].p = *p;
  }
  for (const auto& p : places_)
    if (p.p.creation == 0)
      return bad("nodes");
  switches_ = {switch_->pid(), *other};
  connect(*head_pid, *parent_pid);
  return ok;
}

std::unique_ptr<wiring> builder::base_wiring(const pid& head_pid) const {
  auto w = std::make_unique<wiring>();
  w->head = head_pid;
  w->tag = spec_.tag;
  w->last_tier = spec_.last_tier();
  w->window = spec_.window;
  return w;
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
  const auto entries = spec_.entries();
  links_.resize(spec_.edges.size() + entries.size());
  for (std::size_t i = 0; i < places_.size(); ++i)
    if (places_[i].here)
      connect_node(i, head_pid);
  if (!head_) {
    home_.send(dist::link{switch_->pid(), head_pid});
    switch_->receive_link(head_pid);
    return;
  }
  auto w = base_wiring(head_pid);
  for (std::size_t k = 0; k < entries.size(); ++k) {
    out_edge e;
    e.number = e.own_number
        = static_cast<std::uint32_t>(spec_.edges.size() + k + 1);
    e.window = spec_.window;
    e.target = spec_.nodes[entries[k]].name;
    e.local = link_between(e.number, head_, places_[entries[k]].here);
    e.to = places_[entries[k]].p;
    w->out.push_back(std::move(e));
  }
  std::vector<std::pair<atom, pid>> nodes;
  for (std::size_t i = 0; i < places_.size(); ++i)
    nodes.emplace_back(spec_.nodes[i].name, places_[i].p);
  head_->set_nodes(std::move(nodes));
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
  head_->wire(std::move(w));
  links_.clear();
}

void builder::connect_node(std::size_t i, const pid& head_pid) {
  auto w = base_wiring(head_pid);
  const auto& here = places_[i].here;
  w->how = spec_.nodes[i].how;
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
  for (std::size_t k = 0; k < spec_.edges.size(); ++k) {
    const auto number = static_cast<std::uint32_t>(k + 1);
    const auto [from, to] = spec_.edges[k];
    if (to == i)
      add_in(number, places_[from].here, places_[from].p);
    if (from != i)
      continue;
    out_edge e;
    e.number = e.own_number = number;
    e.window = spec_.window;
    e.target = spec_.nodes[to].name;
    e.local = link_between(number, here, places_[to].here);
    e.to = places_[to].p;
    w->out.push_back(std::move(e));
  }
  const auto entries = spec_.entries();
  if (const auto at = std::find(entries.begin(), entries.end(), i);
      at != entries.end())
    add_in(static_cast<std::uint32_t>(spec_.edges.size()
                                      + static_cast<std::size_t>(
                                          at - entries.begin())
                                      + 1),
           head_, head_pid);
  if (w->out.empty()
      && spec_.receiver.what != receiver_spec::kind::none) {
    out_edge r;
    const auto& to = spec_.receiver;
    r.what = to.what == receiver_spec::kind::pid ? out_edge::kind::plain_pid
             : to.what == receiver_spec::kind::name
                 ? out_edge::kind::plain_name
                 : out_edge::kind::member;
    r.to = to.to;
    r.to_name = to.name;
    r.to_node = to.node;
    r.own_number = static_cast<std::uint32_t>(links_.size() + i + 1);
    w->receiver = std::move(r);
  }
  here->wire(std::move(w));
}

} // namespace esp::coop
