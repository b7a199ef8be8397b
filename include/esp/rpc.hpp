// Functions that other nodes call: a C++ function becomes M:F/A of the C-node,
// its signature its marshalling.
//
//   std::int64_t area(std::int64_t w, std::int64_t h) { return w * h; }
//
//   ESP_PLUGIN(shapes, "1.0.0") { esp::expose("shapes", "area", area); }
//
//   1> rpc:call(CNode, shapes, area, [6, 7]).
//   42
//
// A function runs on the fiber of a process of its own, as one spawned on an
// Erlang node, so it may call all of process.hpp, and block: esp::self() is
// that process. Several of them may run at once, on several threads.
// What a caller sees:
//   a value               by codec.hpp; `void` is ok
//   arguments that do not
//     decode              error function_clause
//   an exception          error {cpp_exception, Type, What}
//   esp::exit(Reason)     exit Reason
// A function of another arity is undef; any argument at all is an esp::term.

#pragma once

#include "esp/codec.hpp"
#include "esp/term.hpp"

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace esp {

namespace detail {

// One function as the host sees it.
struct function_entry {
  atom module, name;
  std::size_t arity;
  void (*function)(); // what `call` takes first
  // Of `arity` arguments; none if they are not of these types.
  std::optional<term> (*call)(void (*function)(), std::span<const term> args);
};

ESP_API void add_function(const function_entry& entry);

template <class T>
inline constexpr bool is_input =
    !std::is_lvalue_reference_v<
        T> || std::is_const_v<std::remove_reference_t<T>>;

template <class F>
concept plain_lambda = std::is_class_v<F> && requires(F f) {
  +f;
};

template <class T>
std::optional<std::remove_cvref_t<T>> argument_of(const term& t) {
  decoder in(t);
  return codec<std::remove_cvref_t<T>>::decode(in);
}

template <class R, class... Args, std::size_t... I>
std::optional<term> call_function(R (*function)(Args...),
                                  std::span<const term> args,
                                  std::index_sequence<I...>) {
  (void)args; // of none
  std::tuple<std::optional<std::remove_cvref_t<Args>>...> in{
      argument_of<Args>(args[I])...};
  if (!(std::get<I>(in).has_value() && ...))
    return std::nullopt;
  if constexpr (std::is_void_v<R>) {
    function(static_cast<Args&&>(*std::get<I>(in))...);
    return atom("ok");
  } else {
    return to_term<std::remove_cvref_t<R>>(
        function(static_cast<Args&&>(*std::get<I>(in))...));
  }
}

} // namespace detail

// Makes `function` what `module:name` of its arity is on this node, from when
// the plugin is loaded until a later image of the same plugin is, which brings
// its own; calls that are under way keep the old image. Only between the braces
// of ESP_PLUGIN: std::logic_error elsewhere.
//
// A module belongs to one plugin. One that has functions of the node's own
// (erlang, code, ...) or of another plugin's, or the same function exposed
// twice, makes the load fail with an error that says so, and nothing changes.
template <class R, class... Args>
void expose(std::string_view module, std::string_view name,
            R (*function)(Args...)) {
  static_assert((decodable<std::remove_cvref_t<Args>> && ...),
                "a parameter is of a type that codec.hpp cannot decode");
  static_assert((detail::is_input<Args> && ...),
                "a parameter is a value or a const reference: nobody reads "
                "what a function writes into its arguments");
  using function_type = R (*)(Args...);
  const auto call = [](void (*f)(), std::span<const term> args) {
    return detail::call_function(reinterpret_cast<function_type>(f), args,
                                 std::index_sequence_for<Args...>());
  };
  detail::add_function({atom(module), atom(name), sizeof...(Args),
                        reinterpret_cast<void (*)()>(function), call});
}

// A lambda that captures nothing.
template <detail::plain_lambda F>
void expose(std::string_view module, std::string_view name, F function) {
  expose(module, name, +function);
}

} // namespace esp
