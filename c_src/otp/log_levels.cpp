#include "otp/log_levels.hpp"

#include <mutex>
#include <utility>
#include <vector>

namespace esp::otp {

namespace {

const atom names[] = {atom("debug"),   atom("info"),  atom("notice"),
                      atom("warning"), atom("error"), atom("critical"),
                      atom("alert"),   atom("emergency")};

// More are no modules of a VM, and their names would stay as atoms.
constexpr std::size_t most_modules = 10'000;

} // namespace

atom atom_of(level l) { return names[static_cast<std::size_t>(l)]; }

int lowest_of(const term& l) {
  static const atom all("all"), none("none");
  int i = 0;
  for (const atom name : names) {
    if (l == term(name))
      return i;
    ++i;
  }
  return l == term(all) ? 0 : l == term(none) ? i : -1;
}

bool log_levels::set(const pid& from, const term& m) {
  const auto modules = m.arity() == 4 ? m.element(3).as_list() : std::nullopt;
  if (!modules || modules->size() > most_modules)
    return false;
  table t{from.creation, lowest_of(m.element(2)), {},
          term::tuple({m.element(2), m.element(3)})};
  if (t.primary < 0)
    return false;
  for (const term& one : *modules) {
    const auto module = one.arity() == 2 ? one.element(0).as_atom()
                                         : std::nullopt;
    const int lowest = module ? lowest_of(one.element(1)) : -1;
    if (lowest < 0)
      return false;
    t.modules.insert_or_assign(*module, lowest);
  }
  const std::lock_guard lock(mutex_);
  tables_.insert_or_assign(from.node, std::move(t));
  return true;
}

bool log_levels::allows(atom vm, std::uint32_t creation, level l,
                        atom module) const {
  const std::shared_lock lock(mutex_);
  const auto vms = tables_.find(vm);
  if (vms == tables_.end() || vms->second.creation != creation)
    return true;
  const table& t = vms->second;
  const auto own = t.modules.find(module);
  return static_cast<int>(l)
         >= (own != t.modules.end() ? own->second : t.primary);
}

term log_levels::shown() const {
  const std::shared_lock lock(mutex_);
  std::vector<std::pair<term, term>> all;
  for (const auto& [vm, t] : tables_)
    all.emplace_back(vm, t.as_told);
  return term::map(all);
}

} // namespace esp::otp
