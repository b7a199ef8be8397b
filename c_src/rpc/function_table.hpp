// What other nodes may call: M:F/A to C++ functions, and nothing outside it.
// Some are the node's own, others come and go with who publishes them; which
// of them a caller may have is the policy's.

#pragma once

#include "esp/error.hpp"
#include "esp/term.hpp"

#include "node/node.hpp"

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

namespace esp::served {

enum class exception_class : std::uint8_t { error, exit, thrown };

// An Erlang exception out of a function of the table. `stack` is for errors.
class raised : public std::exception {
public:
  raised(exception_class c, term reason, term stack = {})
      : class_(c), reason_(std::move(reason)), stack_(std::move(stack)) {}
  const char* what() const noexcept override { return "an Erlang exception"; }

  exception_class of_class() const noexcept { return class_; }
  const term& reason() const noexcept { return reason_; }
  const term& stack() const noexcept { return stack_; }

private:
  exception_class class_;
  term reason_, stack_;
};

// error:badarg; the table adds the function to the stack.
[[noreturn]] void badarg();

// erlang:apply/3 takes fewer arguments than this, or it is system_limit.
inline constexpr std::size_t max_arguments = 1'024;
// How many there are in `list`, or max_arguments for more; none if it is no
// proper list. No more of it is looked at, nor made: it may be as long as a
// signal.
std::optional<std::size_t> count_arguments(const term& list);

// erlang:apply of erlang:apply of ... is a loop there and a stack here, which
// has an end: deeper than this it is system_limit.
inline constexpr unsigned max_applied = 16;

// What other nodes may call: everything in the table, what only looks at the
// node, nothing.
enum class policy : std::uint8_t { all, inspect, none };

// As code:all_loaded/0 has it: `preloaded`, or the path of its file.
struct loaded_module {
  atom name;
  term file;
  std::string version; // empty: none
};

class function_table;

// Who calls. The call runs on `self`'s fiber and may block it.
struct call_context {
  node::node& home;
  node::process& self;
  const function_table& table;
  atom caller;          // the node that asked
  unsigned applied = 0; // erlang:apply within erlang:apply
};

using arguments = std::span<const term>;
using function = std::function<term(call_context&, arguments)>;

// What a function of the node's own does to it: `looks` may be had under
// policy::inspect.
enum class effect : std::uint8_t { acts, looks };

// One function that a publisher brings.
struct published {
  atom module, name;
  std::size_t arity;
  function call;
};

// Thread safe.
class function_table {
public:
  // The node's own, before anybody calls.
  void add(std::string_view module, std::string_view name, unsigned arity,
           function f, effect e = effect::acts);
  // For nodes other than `owner` and this one. Before anybody calls.
  void restrict_to(policy p, atom owner);

  // All that `publisher` has from now on, in place of what it had; nothing
  // changes if a module is the node's own or another publisher's (`already`).
  result<void> publish(atom publisher, std::vector<published> all);

  // Modules that no function need be of: plugins with tasks only, what
  // processes say their module is. Before anybody calls.
  void know(std::function<std::vector<loaded_module>()> modules);

  // module_info/0,1 are there for every module.
  bool has(atom module, atom name, std::size_t arity) const;
  bool has_module(atom module) const;
  std::vector<loaded_module> modules() const;
  // {Name, Arity}
  std::vector<std::pair<atom, std::size_t>> functions_of(atom module) const;

  // Calls it. Leaves with exit_signal, or with `raised` for everything else
  // that went wrong: undef if there is no such function, {not_allowed,
  // {M, F, A}} if the caller may not have it, badarg, {cpp_exception, Type,
  // What}.
  term call(call_context& c, atom module, atom name, arguments args) const;
  // erlang:apply/3, of whatever terms: badarg, or system_limit for too many
  // arguments or too deep a nesting, besides.
  term apply(call_context& c, const term& module, const term& name,
             const term& args) const;
  // erlang:apply/2 of `fun M:F/A`. Closures cannot run here: badfun.
  term apply(call_context& c, const term& fun, const term& args) const;

private:
  using key = std::tuple<atom, atom, std::size_t>;
  struct hash {
    std::size_t operator()(const key& k) const noexcept;
  };
  struct entry {
    function call;
    effect does = effect::acts;
    atom publisher; // '': the node itself
  };
  using entries = std::unordered_map<key, std::shared_ptr<const entry>, hash>;

  std::shared_ptr<const entry> find(const key& k) const;
  bool is_module_info(const key& k) const;
  bool allows(const call_context& c, const entry& e) const;
  void take_back(atom publisher, entries& taken); // under mutex_

  mutable std::mutex mutex_;
  entries functions_;
  std::unordered_map<atom, atom> modules_; // to their publisher
  policy policy_ = policy::all;
  atom owner_;
  std::function<std::vector<loaded_module>()> known_
      = [] { return std::vector<loaded_module>(); };
};

// [{M, F, Args, Location}], what erlang:raise/3 would have on top.
term stack_of(atom module, atom name, const term& args,
              const term& location = {});
// The Location of a badarg of module erlang's: a shell asks that module to say
// which argument was wrong.
term error_info();
// Module, name and arity of `fun M:F/A`; none for anything else.
struct external {
  atom module, name;
  std::size_t arity;
};
std::optional<external> external_of(const term& fun);

} // namespace esp::served
