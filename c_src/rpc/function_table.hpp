// What other nodes may call: M:F/A to C++ functions, and nothing outside it.

#pragma once

#include "esp/error.hpp"
#include "esp/term.hpp"

#include "node/node.hpp"

#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
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

class function_table;

// Who calls. The call runs on `self`'s fiber and may block it.
struct call_context {
  node::node& home;
  node::process& self;
  const function_table& table;
};

using arguments = std::span<const term>;
using function = std::function<term(call_context&, arguments)>;

// Thread safe. Functions are added, or replaced, never removed.
class function_table {
public:
  void add(std::string_view module, std::string_view name, unsigned arity,
           function f);

  bool has(atom module, atom name, std::size_t arity) const;
  bool has_module(atom module) const;

  // Calls it. Leaves with exit_signal, or with `raised` for everything else
  // that went wrong: undef if there is no such function, badarg,
  // {cpp_exception, Type, What}.
  term call(call_context& c, atom module, atom name, arguments args) const;
  // erlang:apply/2 of `fun M:F/A`. Closures cannot run here: badfun.
  term apply(call_context& c, const term& fun, arguments args) const;

private:
  using key = std::tuple<atom, atom, std::size_t>;
  struct hash {
    std::size_t operator()(const key& k) const noexcept;
  };
  std::optional<function> find(const key& k) const;

  mutable std::mutex mutex_;
  std::unordered_map<key, function, hash> functions_;
  std::unordered_map<atom, unsigned> modules_;
};

// [{M, F, Args, []}], what erlang:raise/3 would have on top.
term stack_of(atom module, atom name, arguments args);
// Module, name and arity of `fun M:F/A`; none for anything else.
struct external {
  atom module, name;
  std::size_t arity;
};
std::optional<external> external_of(const term& fun);

} // namespace esp::served
