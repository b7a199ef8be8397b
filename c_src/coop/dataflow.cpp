#include "coop/dataflow.hpp"

#include "coop/emitter.hpp"

#include <optional>
#include <utility>

namespace esp::coop {

namespace {

using method = dataflow::method;

struct named_method {
  std::string_view name;
  method how;
};
constexpr named_method plain_methods[] = {
    {"broadcast", method::broadcast},
    {"round_robin", method::round_robin},
    {"random", method::random},
    {"shuffle", method::shuffle},
    {"least_loaded", method::least_loaded},
};
constexpr named_method methods_by_part[] = {
    {"select", method::select},
    {"hash", method::hash},
};

// What a task for `select` may give: names of nodes, or lists of them.
constexpr kind_set names{kind::atom, kind::list, kind::nil};

// A task of the node's own plugin, and one without a state, which nobody could
// ask for or replace.
std::variant<part, term> read_task(atom name, method how,
                                   const plugin::task_ref& node) {
  const auto* const task = node.from->find(name.name());
  if (task == nullptr)
    return term::tuple({atom("no_task"), atom(node.from->name()), name});
  if (task->create != nullptr)
    return term::tuple(
        {atom("native_needs"), term::tuple({atom("stateless"), name})});
  const auto fit = [](kind_set from, kind_set to) {
    return from.empty() || from.intersects(to);
  };
  if (!fit(node.entry->emits, task->accepts)
      || (how == method::select && !fit(task->emits, names)))
    return term::tuple({atom("type_mismatch"), name});
  return part{part::kind::task, 0, name, task};
}

std::variant<part, term> read_part(const term& t, method how,
                                   const plugin::task_ref& node,
                                   const term& bad) {
  if (t.is_atom("all"))
    return part();
  if (t.is_tagged("element", 2)) {
    const auto n = t.element(1).as_integer().value_or(0);
    if (n < 1)
      return bad;
    return part{part::kind::element, static_cast<std::size_t>(n - 1), {}, {}};
  }
  if (t.is_tagged("key", 2))
    return part{part::kind::key, 0, t.element(1), nullptr};
  const auto task = t.as_atom();
  if (!task || node.entry == nullptr)
    return bad;
  return read_task(*task, how, node);
}

// Where a part that a task makes of a datum is kept.
struct collector final : emitter {
  explicit collector(std::vector<term>& into) : into_(into) {}
  void emit(datum&& d) override { into_.push_back(d.to_term()); }
  bool emit_to(std::string_view, datum&&) override { return false; }
  void emit_to(const pid&, datum&&) override {}
  std::vector<term>& into_;
};

// {Initial, Threshold, Replenish}
std::optional<slab> read_slab(const term& t) {
  const auto e = t.elements();
  std::uint32_t n[3] = {};
  if (e.size() != 3)
    return std::nullopt;
  for (std::size_t i = 0; i < 3; ++i) {
    const auto value = e[i].as_integer().value_or(-1);
    if (value < (i == 1 ? 0 : 1) || value > 0x7FFFFFFF)
      return std::nullopt;
    n[i] = static_cast<std::uint32_t>(value);
  }
  return slab{n[0], n[1], n[2]};
}

} // namespace

std::variant<dataflow, term> read_dataflow(const term& t,
                                           const plugin::task_ref& node) {
  const term bad = term::tuple({atom("bad_dataflow"), t});
  for (const auto& [name, how] : plain_methods)
    if (t.is_atom(name))
      return dataflow{how, {}, {}};
  for (const auto& [name, how] : methods_by_part)
    if (t.is_tagged(name, 2)) {
      auto by = read_part(t.element(1), how, node, bad);
      if (auto* const cause = std::get_if<term>(&by))
        return std::move(*cause);
      return dataflow{how, std::move(std::get<part>(by)), {}};
    }
  if (t.is_tagged("consume", 2))
    if (const auto workers = read_slab(t.element(1)))
      return dataflow{method::consume, {}, *workers};
  return bad;
}

bad_result no_part(const part& p, const datum& d) {
  static const atom tag("no_part"), all("all"), element("element"), key("key");
  const auto which = [&]() -> term {
    switch (p.what) {
    case part::kind::all:
      break;
    case part::kind::element:
      return term::tuple(
          {element, term::integer(static_cast<std::int64_t>(p.place) + 1)});
    case part::kind::key:
      return term::tuple({key, p.key});
    case part::kind::task:
      return p.key;
    }
    return all;
  };
  return bad_result(term::tuple({tag, which(), d.to_term()}));
}

void take_part(const part& p, datum& d, std::vector<term>& into) {
  into.clear();
  if (p.what == part::kind::task) {
    collector to(into);
    outlet out(static_cast<emitter*>(&to));
    // It has a share: what it takes by value is copied, not taken away.
    datum shared = d.share();
    try {
      p.task->call(reinterpret_cast<void*>(p.task->function), shared, out);
    } catch (const decode_error&) {
      throw no_part(p, d);
    }
    return;
  }
  term t = d.to_term();
  if (p.what == part::kind::all)
    return into.push_back(std::move(t));
  if (p.what == part::kind::element && t.kind() == kind::tuple
      && p.place < t.arity())
    return into.push_back(t.element(p.place));
  if (p.what == part::kind::key)
    if (auto value = t.get(p.key))
      return into.push_back(std::move(*value));
  throw no_part(p, d);
}

} // namespace esp::coop
