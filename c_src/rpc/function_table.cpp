#include "rpc/function_table.hpp"

#include "esp/coder.hpp"
#include "esp/process.hpp"

#include "base/log.hpp"
#include "node/spawned.hpp"
#include "rpc/module_info.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace esp::served {

namespace {

const atom badarg_("badarg"), undef("undef"), erlang("erlang");

// Strangers can cause these lines; they go where the owner sees them.
void refuse(const call_context& c, atom module, atom name, arguments args) {
  static const atom not_allowed("not_allowed");
  static base::log_limiter limiter;
  const term mfa = term::tuple(
      {module, name, term::integer(static_cast<std::int64_t>(args.size()))});
  if (limiter.admits(base::log_level::warning) && c.home.on_log)
    c.home.on_log(nullptr, level::warning,
                  term::binary(std::string(c.caller.name()) + " may not call "
                               + std::string(module.name()) + ":"
                               + std::string(name.name()) + "/"
                               + std::to_string(args.size())),
                  {});
  throw raised(exception_class::error, term::tuple({not_allowed, mfa}),
               stack_of(module, name, term::list(args)));
}

} // namespace

std::optional<std::size_t> count_arguments(const term& list) {
  decoder in(list);
  decoder::list_state l;
  if (!in.enter(l))
    return std::nullopt;
  std::size_t n = 0;
  while (in.next(l)) {
    if (++n == max_arguments)
      return n;
    in.skip();
  }
  return l.proper ? std::optional(n) : std::nullopt;
}

void badarg() {
  throw raised(exception_class::error, badarg_);
}

term stack_of(atom module, atom name, const term& args, const term& location) {
  return term::list(
      std::initializer_list<term>{term::tuple({module, name, args, location})});
}

term error_info() {
  static const term info = term::list(std::initializer_list<term>{
      term::tuple({atom("error_info"),
                   term::map({{atom("module"), atom("erl_erts_errors")}})})});
  return info;
}

// External format: 113, Module, Function, Arity, the last a small integer.
std::optional<external> external_of(const term& fun) {
  const auto b = fun.bytes();
  if (b.empty() || b[0] != std::byte{113})
    return std::nullopt;
  // The three parts, as the elements of a tuple, which they are alike.
  std::vector<std::byte> parts{std::byte{131}, std::byte{104}, std::byte{3}};
  parts.insert(parts.end(), b.begin() + 1, b.end());
  const auto t = term::decode(parts);
  if (!t || t->arity() != 3)
    return std::nullopt;
  const auto module = t->element(0).as_atom(), name = t->element(1).as_atom();
  const auto arity = t->element(2).as_integer();
  if (!module || !name || !arity || *arity < 0)
    return std::nullopt;
  return external{*module, *name, static_cast<std::size_t>(*arity)};
}

std::size_t function_table::hash::operator()(const key& k) const noexcept {
  const auto& [m, f, a] = k;
  return (std::size_t{m.index()} << 32 | f.index()) * 0x9E3779B97F4A7C15U + a;
}

void function_table::add(std::string_view module, std::string_view name,
                         unsigned arity, function f, effect e) {
  const atom m(module);
  const std::lock_guard guard(mutex_);
  functions_.insert_or_assign(
      key{m, atom(name), arity},
      std::make_shared<const entry>(entry{std::move(f), e, atom()}));
  modules_.insert_or_assign(m, atom());
}

void function_table::restrict_to(policy p, atom owner) {
  policy_ = p;
  owner_ = owner;
}

result<void> function_table::publish(atom publisher,
                                     std::vector<published> all) {
  entries taken; // destroyed last: an image may go with them
  const std::lock_guard guard(mutex_);
  for (const auto& p : all)
    if (const auto it = modules_.find(p.module);
        it != modules_.end() && it->second != publisher)
      return {errc::already,
              "module " + std::string(p.module.name()) + " is "
                  + (it->second == atom()
                         ? "the node's own"
                         : "plugin " + std::string(it->second.name()) + "'s")};
  take_back(publisher, taken);
  for (auto& p : all) {
    modules_.insert_or_assign(p.module, publisher);
    functions_.insert_or_assign(
        key{p.module, p.name, p.arity},
        std::make_shared<const entry>(
            entry{std::move(p.call), effect::acts, publisher}));
  }
  return {};
}

void function_table::take_back(atom publisher, entries& taken) {
  for (auto it = functions_.begin(); it != functions_.end();)
    if (it->second->publisher == publisher)
      taken.insert(functions_.extract(it++));
    else
      ++it;
  std::erase_if(modules_, [&](const auto& m) { return m.second == publisher; });
}

void function_table::know(std::function<std::vector<loaded_module>()> modules) {
  known_ = std::move(modules);
}

std::shared_ptr<const function_table::entry>
function_table::find(const key& k) const {
  {
    const std::lock_guard guard(mutex_);
    if (const auto it = functions_.find(k); it != functions_.end())
      return it->second;
  }
  if (!is_module_info(k))
    return nullptr;
  return std::make_shared<const entry>(
      entry{[m = std::get<0>(k)](call_context& c, arguments a) {
              return module_info(c.table, m, a);
            },
            effect::looks, atom()});
}

bool function_table::is_module_info(const key& k) const {
  const auto& [module, name, arity] = k;
  return name == "module_info" && arity <= 1 && has_module(module);
}

// Who owns the OS process may do with it as he likes; so may its own tasks.
bool function_table::allows(const call_context& c, const entry& e) const {
  if (policy_ == policy::all || c.caller == c.home.name()
      || (c.caller == owner_ && owner_ != atom()))
    return true;
  return policy_ == policy::inspect && e.does == effect::looks;
}

bool function_table::has(atom module, atom name, std::size_t arity) const {
  const key k{module, name, arity};
  {
    const std::lock_guard guard(mutex_);
    if (functions_.contains(k))
      return true;
  }
  return is_module_info(k);
}

bool function_table::has_module(atom module) const {
  {
    const std::lock_guard guard(mutex_);
    if (modules_.contains(module))
      return true;
  }
  const auto known = known_();
  return std::any_of(known.begin(), known.end(),
                     [&](const loaded_module& m) { return m.name == module; });
}

// A plugin's modules are in its file.
std::vector<loaded_module> function_table::modules() const {
  static const term preloaded = atom("preloaded");
  auto all = known_();
  const auto find = [&all](atom name) {
    return std::find_if(all.begin(), all.end(), [&](const loaded_module& m) {
      return m.name == name;
    });
  };
  const std::lock_guard guard(mutex_);
  for (const auto& [name, publisher] : modules_)
    if (find(name) == all.end()) {
      const auto by = find(publisher);
      const loaded_module m =
          by == all.end() ? loaded_module{name, preloaded, {}}
                          : loaded_module{name, by->file, by->version};
      all.push_back(m);
    }
  return all;
}

std::vector<std::pair<atom, std::size_t>>
function_table::functions_of(atom module) const {
  std::vector<std::pair<atom, std::size_t>> all;
  const std::lock_guard guard(mutex_);
  for (const auto& [k, e] : functions_)
    if (std::get<0>(k) == module)
      all.emplace_back(std::get<1>(k), std::get<2>(k));
  return all;
}

term function_table::call(call_context& c, atom module, atom name,
                          arguments args) const {
  const auto f = find({module, name, args.size()});
  if (!f)
    throw raised(exception_class::error, undef,
                 stack_of(module, name, term::list(args)));
  if (!allows(c, *f))
    refuse(c, module, name, args);
  try {
    return f->call(c, args);
  } catch (const raised& e) {
    if (e.of_class() != exception_class::error || e.stack() != term())
      throw;
    const bool is_told = module == erlang && e.reason() == term(badarg_);
    throw raised(e.of_class(), e.reason(),
                 stack_of(module, name, term::list(args),
                          is_told ? error_info() : term()));
  } catch (const exit_signal&) {
    throw;
  } catch (...) {
    // {{cpp_exception, Type, What}, Stacktrace}, or system_limit
    const term reason = node::reason_of_current_exception();
    throw raised(exception_class::error,
                 reason.arity() == 2 ? reason.element(0) : reason,
                 stack_of(module, name, term::list(args)));
  }
}

term function_table::apply(call_context& c, const term& module,
                           const term& name, const term& args) const {
  static const atom system_limit("system_limit"), apply_("apply");
  const auto m = module.as_atom(), f = name.as_atom();
  const auto a = count_arguments(args);
  if (m && f && a && *a < max_arguments)
    return call(c, *m, *f, *args.as_list());
  throw raised(
      exception_class::error, m && f && a ? system_limit : badarg_,
      stack_of(erlang, apply_, term::list({module, name, args}), error_info()));
}

term function_table::apply(call_context& c, const term& fun,
                           const term& args) const {
  static const atom badfun("badfun"), badarity("badarity"), apply_("apply");
  static const term stack = stack_of(erlang, apply_, term::integer(2));
  const auto a = count_arguments(args);
  if (!a)
    badarg();
  const auto e = external_of(fun);
  if (e && e->arity == *a && *a < max_arguments)
    return call(c, e->module, e->name, *args.as_list());
  if (fun.kind() == kind::fun && e)
    throw raised(exception_class::error,
                 term::tuple({badarity, term::tuple({fun, args})}), stack);
  throw raised(exception_class::error, term::tuple({badfun, fun}), stack);
}

} // namespace esp::served
