#include "rpc/function_table.hpp"

#include "esp/process.hpp"

#include "base/bytes.hpp"
#include "node/spawned.hpp"

namespace esp::served {

namespace {

const atom badarg_("badarg"), undef("undef");

} // namespace

void badarg() {
  throw raised(exception_class::error, badarg_);
}

term stack_of(atom module, atom name, arguments args) {
  return term::list(std::initializer_list<term>{
      term::tuple({module, name, term::list(args), term()})});
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
                         unsigned arity, function f) {
  const atom m(module);
  const std::lock_guard guard(mutex_);
  functions_.insert_or_assign(key{m, atom(name), arity}, std::move(f));
  ++modules_[m];
}

std::optional<function> function_table::find(const key& k) const {
  const std::lock_guard guard(mutex_);
  const auto it = functions_.find(k);
  return it == functions_.end() ? std::nullopt : std::optional(it->second);
}

bool function_table::has(atom module, atom name, std::size_t arity) const {
  const std::lock_guard guard(mutex_);
  return functions_.contains(key{module, name, arity});
}

bool function_table::has_module(atom module) const {
  const std::lock_guard guard(mutex_);
  return modules_.contains(module);
}

term function_table::call(call_context& c, atom module, atom name,
                          arguments args) const {
  const auto f = find({module, name, args.size()});
  if (!f)
    throw raised(exception_class::error, undef, stack_of(module, name, args));
  try {
    return (*f)(c, args);
  } catch (const raised& e) {
    if (e.of_class() != exception_class::error || e.stack() != term())
      throw;
    throw raised(e.of_class(), e.reason(), stack_of(module, name, args));
  } catch (const std::exception&) {
    // {{cpp_exception, Type, What}, Stacktrace}, or system_limit
    const term reason = node::reason_of_current_exception();
    throw raised(exception_class::error,
                 reason.arity() == 2 ? reason.element(0) : reason,
                 stack_of(module, name, args));
  }
}

term function_table::apply(call_context& c, const term& fun,
                           arguments args) const {
  static const atom badfun("badfun"), badarity("badarity");
  const auto e = external_of(fun);
  if (e && e->arity == args.size())
    return call(c, e->module, e->name, args);
  if (fun.kind() == kind::fun && e)
    throw raised(exception_class::error,
                 term::tuple({badarity, term::tuple({fun, term::list(args)})}));
  throw raised(exception_class::error, term::tuple({badfun, fun}));
}

} // namespace esp::served
