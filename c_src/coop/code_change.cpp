#include "coop/code_change.hpp"

#include "coop/builder.hpp"
#include "coop/coop_node.hpp"
#include "coop/kill_switch.hpp"

#include <algorithm>
#include <map>
#include <utility>

namespace esp::coop {

namespace {

const atom ok("ok"), error_("error"), no_plugin("no_plugin"),
    no_task("no_task"), busy("busy");

term error(term reason) { return term::tuple({error_, std::move(reason)}); }

} // namespace

code_change::code_change(kill_switch& of) : of_(of) {}
code_change::~code_change() = default;

bool code_change::is_about(const term& r) noexcept {
  return r.is_atom("generation") || r.is_tagged("changes", 2)
         || r.is_tagged("prepare_change", 4)
         || r.is_atom("commit_change") || r.is_atom("abort_change")
         || r.is_tagged("let_go", 2);
}

void code_change::request(const term& from, const term& r) {
  const auto who = from.arity() == 2 ? from.element(0).as_pid() : std::nullopt;
  if (!who)
    return;
  if (r.is_atom("generation"))
    return reply(from, term::tuple({ok, term::integer(static_cast<std::int64_t>(
                                            of_.generation()))}));
  if (r.is_tagged("changes", 2)) {
    std::int64_t n = 0;
    for_each(current(r.element(1)),
             [&](coop_node*, const plugin::image_ptr&) { ++n; });
    return reply(from, term::tuple({atom("native"), term::integer(n)}));
  }
  if (r.is_tagged("let_go", 2)) {
    of_.let_go(static_cast<std::uint64_t>(
        std::max<std::int64_t>(0, r.element(1).as_integer().value_or(0))));
    return reply(from, ok);
  }
  if (r.is_tagged("prepare_change", 4)) {
    if (is_under_way() || !of_.is_whole())
      return reply(from, error(busy));
    by_ = *who;
    watch_ = of_.monitor(*who, who->node);
    is_down_ = r.element(2).is_tagged("down", 2);
    extra_ = r.element(3);
    to_ = current(r.element(1));
    return prepare(from);
  }
  if (r.is_atom("abort_change")) {
    if (by_ == *who && !is_committing_)
      abort();
    return reply(from, ok);
  }
  if (by_ != *who || from_ || is_committing_)
    return reply(from, error(atom("not_prepared")));
  commit(from);
}

code_change::images code_change::current(const term& plugins) const {
  images all;
  const auto names = plugins.as_list().value_or(std::vector<term>());
  for (const term& t : names)
    if (const auto a = t.as_atom(); a && of_.tasks() != nullptr)
      all.emplace(*a, of_.tasks()->find(a->name()));
  return all;
}

template <class F>
void code_change::for_each(const images& to, F&& f) const {
  const auto one = [&](const member_ptr& m) {
    auto* const n = dynamic_cast<coop_node*>(m.get());
    const auto it = n != nullptr ? to.find(n->plugin_name()) : to.end();
    if (it != to.end() && it->second != n->task().from)
      f(n, it->second);
  };
  for (const auto& m : of_.members_)
    one(m);
  for (const auto& [number, m] : of_.late_)
    one(m);
}

void code_change::prepare(const term& from) {
  from_ = from;
  ++order_;
  if (auto wrong = find_new())
    return refuse(*wrong);
  if (auto wrong = find_misfit())
    return refuse(*wrong);
  // Nodes that are yet to be made, of kinds of which there may be none now.
  for (const auto& [name, to] : to_)
    if (of_.builder_ && to && !of_.builder_->can_change_to(*to))
      return refuse(term::tuple({no_task, name}));
  tell_prepare();
  check_answered();
}

// Adds to `asked_` who is not there yet: the nodes may go on to start others
// until they have been asked themselves.
std::optional<term> code_change::find_new() {
  std::optional<term> wrong;
  of_.take_in_late();
  for_each(to_, [&](coop_node* n, const plugin::image_ptr& to) {
    if (wrong || asked_.contains(n->number()))
      return;
    const auto bad = [&](term cause) {
      wrong = term::tuple({n->name_in_template(), std::move(cause)});
    };
    if (!to)
      return bad(term::tuple({no_plugin, n->plugin_name()}));
    const auto* const entry = to->find(n->task_name().name());
    if (entry == nullptr)
      return bad(term::tuple({no_task, n->plugin_name(), n->task_name()}));
    asked_.emplace(n->number(), asked{n, {to, entry}});
  });
  return wrong;
}

// The types on both ends of each edge, as they will be.
std::optional<term> code_change::find_misfit() const {
  std::map<atom, const detail::task_entry*> entries;
  std::vector<plugin::task_ref> kept;
  const auto add = [&](const member_ptr& m) {
    if (const auto* n = dynamic_cast<const coop_node*>(m.get())) {
      kept.push_back(n->task());
      entries.emplace(n->name_in_template(), kept.back().entry);
    }
  };
  for (const auto& m : of_.members_)
    add(m);
  for (const auto& [number, m] : of_.late_)
    add(m);
  for (const auto& [number, a] : asked_)
    entries[a.node->name_in_template()] = a.to.entry;
  for (const auto& [from, to] : of_.edges()) {
    const auto f = entries.find(from), g = entries.find(to);
    if (f != entries.end() && g != entries.end() && !f->second->emits.empty()
        && !f->second->emits.intersects(g->second->accepts))
      return term::tuple(
          {to, term::tuple({atom("type_mismatch"), from, to})});
  }
  return std::nullopt;
}

void code_change::tell_prepare() {
  for (auto& [number, a] : asked_)
    if (!a.is_told) {
      a.is_told = a.is_awaited = true;
      ++awaited_;
      a.node->prepare_change(a.to, is_down_, extra_, order_);
    }
}

void code_change::answered(std::uint64_t node, std::uint32_t order,
                           const std::optional<term>& refusal) {
  if (order != order_)
    return; // aborted meanwhile
  const auto it = asked_.find(node);
  if (it == asked_.end() || !std::exchange(it->second.is_awaited, false))
    return;
  --awaited_;
  if (refusal)
    return refuse(
        term::tuple({it->second.node->name_in_template(), *refusal}));
  check_answered();
}

void code_change::gone(std::uint64_t node) {
  const auto it = asked_.find(node);
  if (it == asked_.end())
    return;
  if (it->second.is_awaited)
    --awaited_;
  asked_.erase(it);
  check_answered();
}

void code_change::check_answered() {
  if (awaited_ != 0 || (!from_ && !is_committing_))
    return;
  if (is_committing_) {
    if (from_)
      done();
    return end();
  }
  const std::size_t before = asked_.size();
  if (auto wrong = find_new())
    return refuse(*wrong);
  if (asked_.size() != before)
    return tell_prepare();
  reply(*std::exchange(from_, std::nullopt),
        term::tuple({ok, term::integer(
                             static_cast<std::int64_t>(asked_.size()))}));
}

void code_change::done() const {
  reply(*from_, term::tuple({ok, term::integer(static_cast<std::int64_t>(
                                     of_.generation()))}));
}

// What is made from here on is of the new images, and the old ones are kept, for
// values of theirs may still be on their way.
void code_change::commit(const term& from) {
  from_ = from;
  is_committing_ = true;
  std::vector<std::pair<plugin::image_ptr, plugin::image_ptr>> changed;
  for (const auto& [number, a] : asked_)
    changed.emplace_back(a.node->task().from, a.to.from);
  std::sort(changed.begin(), changed.end());
  changed.erase(std::unique(changed.begin(), changed.end()), changed.end());
  of_.changes(changed);
  ++order_;
  for (auto& [number, a] : asked_) {
    a.is_awaited = true;
    ++awaited_;
    a.node->commit_change(order_);
  }
  check_answered();
}

void code_change::abort() {
  ++order_;
  for (const auto& [number, a] : asked_)
    a.node->abort_change();
  end();
}

bool code_change::lost(const ref& r) {
  if (!by_ || r != watch_)
    return false;
  if (!is_committing_)
    abort();
  else
    from_.reset(); // nobody waits for it any more
  return true;
}

void code_change::drop(const term& reason, bool lives_on) {
  if (!by_)
    return;
  if (from_ && is_committing_ && lives_on)
    done();
  else if (from_)
    reply(*from_, error(reason));
  ++order_;
  end();
}

void code_change::refuse(const term& reason) {
  if (from_)
    reply(*from_, error(reason));
  abort();
}

void code_change::end() {
  if (!by_)
    return;
  of_.demonitor(watch_);
  by_.reset();
  from_.reset();
  is_committing_ = false;
  asked_.clear();
  to_.clear();
  awaited_ = 0;
  extra_ = term();
  of_.change_is_over();
}

void code_change::reply(const term& from, const term& answer) const {
  of_.home().reply(of_.pid(), from, answer);
}

} // namespace esp::coop
