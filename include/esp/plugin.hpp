// All that the author of a task needs: a C++ function or class becomes a task
// of a plugin, its signature its marshalling.
//
//   std::int64_t plus2(std::int64_t x) { return x + 2; }
//
//   ESP_PLUGIN(hello, "1.0.0") { plugin.task("plus2", plus2); }
//
// A task is a function or an object called with one datum, optionally with an
// outlet, for each datum that its node takes; by one thread at a time. Its
// parameter is any decodable type (codec.hpp), esp::term for any term. What
// it returns goes downstream: a value is one result, esp::many<T> any number,
// std::optional<T> none or one, void none; an outlet emits 0..n.
// A function may also be what a node's dataflow goes by, {hash, Task} or
// {select, Task}: it is called with each result of that node, and what it gives
// is a key, or names of nodes.
// A datum that does not decode ends the node with
// {function_clause, [{Plugin, Task, [Datum], []}]}, an exception with
// {{cpp_exception, Type, What}, Stacktrace}.
//
// When a node changes to a new image of its plugin, whose types the compiler has
// laid out anew, its state goes there as a term: what the old image gives for
// sys:get_state (by state(), or fields()), and the new one makes of it, by
//   static State code_change(term old_vsn, term old_state, term extra)
// if State has that, else by its constructor from a saved_state, else by its
// fields(). What throws, or does not fit, refuses the change. `old_vsn` is the old
// image's version, as a binary; {down, Version} if the new one is the older. That
// cannot know what later versions look like, but they know it:
//   term code_change_down(term to_vsn, term extra) const
// of a State is what it is to be given. (doc/upgrade.md)

#pragma once

#include "esp/codec.hpp"
#include "esp/datum.hpp"
#include "esp/process.hpp"
#include "esp/term.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace esp {

// Raised whenever a plugin built against older headers would misread what the
// host hands it. Checked before anything of a plugin runs.
inline constexpr std::uint32_t abi_number = 3;

// Any number of results of one datum, in order.
template <class T>
struct many : std::vector<T> {
  using std::vector<T>::vector;
};

// Where a task's results go. Valid during the call it is passed to.
class ESP_API outlet {
public:
  // Hands one result to the node's dataflow method. Blocks the fiber while
  // the edge it goes to is full; throws exit_signal if the process is told to
  // end meanwhile.
  template <class T>
  void emit(T&& value) {
    emit_datum(datum::of(std::forward<T>(value)));
  }
  // The same to the one downstream node of that name; std::invalid_argument
  // if there is none.
  template <class T>
  void emit_to(std::string_view node, T&& value) {
    emit_datum_to(node, datum::of(std::forward<T>(value)));
  }

  // The same to a node that this task has started, see start_node(). If that
  // has ended, or was stopped, or is none of its own, the datum is dropped, with
  // `noproc` as its reason.
  template <class T>
  void emit_to(const pid& node, T&& value) {
    emit_datum_to(node, datum::of(std::forward<T>(value)));
  }

  void emit_datum(datum&& d);
  void emit_datum_to(std::string_view node, datum&& d);
  void emit_datum_to(const pid& node, datum&& d);

  explicit outlet(void* node) noexcept : node_(node) {}
  outlet(const outlet&) = delete;
  outlet& operator=(const outlet&) = delete;

private:
  void* node_;
};

// A new node of the co-op, made by the task of another, which blocks until its
// state is there. It runs the task of that name of the same plugin, its state
// made of `args`. It gets what this task emits to it (emit_to), with credit, and
// what others send to its pid. Its results go where those of this node go. It is
// a member of the co-op: it ends with it, is waited for by coop:flush/2, and
// takes the co-op along when it ends with another reason than `normal`. `name`
// is for logs and need not be unique. Errors: not_found (no such task), refused
// (its init failed, with the reason as text; a router by consume; a co-op with
// restart => body), noproc (the co-op ends).
ESP_API result<pid> start_node(std::string_view name, std::string_view task,
                               const term& args = term(atom("undefined")));
// Ends it in order, after what has been sent to it and its flush; nothing happens
// if it is none that this task has started.
ESP_API void stop_node(const pid& node);
// The head of the task's co-op, to which it may send new data. (As the others not
// for constructors, which run before the co-op does: std::logic_error.)
ESP_API pid head();

// A state that sys:replace_state or a change of code hands to a constructor.
struct saved_state {
  term value;
};

// The options of one task.
struct task_options {
  std::size_t stack = 0; // bytes; 0: the C-node's default
};

// A datum or an init argument that is not of the type asked for.
class ESP_API decode_error : public std::exception {
public:
  explicit decode_error(esp::error why) : why_(std::move(why)) {}
  const char* what() const noexcept override { return why_.what.c_str(); }
  const esp::error& why() const noexcept { return why_; }

private:
  esp::error why_;
};

namespace detail {

// One task as the host sees it. Functions that a task has not are null.
struct task_entry {
  std::string_view name;
  std::string_view type; // of its state, for {opaque, Type}
  task_options options;
  kind_set accepts;
  kind_set emits; // of its return type; empty if it emits through an outlet
  void (*function)(); // of a stateless task: what `call` takes as its state
  void* (*create)(const term& args); // may throw; null: stateless
  void (*destroy)(void* state) noexcept;
  void (*call)(void* state, datum& in, outlet& out);
  void (*flush)(void* state, outlet& out);
  term (*get_state)(const void* state);
  void (*replace_state)(void* state, const term& value); // throws if refused
  // A new state of another image's; throws if refused.
  void* (*code_change)(const term& old_vsn, const term& old_state,
                       const term& extra);
  // For an older image, instead of get_state.
  term (*code_change_down)(const void* state, const term& to_vsn,
                           const term& extra);
};

struct plugin_entry {
  std::uint32_t abi;
  std::string_view name;
  std::string_view version;
  void (*register_tasks)(void* registry);
};

ESP_API void add_task(void* registry, const task_entry& entry);

template <class T>
decltype(auto) argument(datum& in) {
  using V = std::remove_cvref_t<T>;
  if constexpr (std::is_same_v<V, term>) {
    return in.to_term();
  } else if constexpr (std::is_reference_v<T> && !std::is_const_v<
                           std::remove_reference_t<T>>) {
    static_assert(!std::is_lvalue_reference_v<T>,
                  "a task takes its datum by value or by const reference");
  } else {
    if (in.holds<V>())
      return in.take_as<V>();
    auto decoded = from_term<V>(in.to_term());
    if (!decoded)
      throw decode_error(decoded.error());
    return V(std::move(*decoded));
  }
}

template <class R>
void emit_result(outlet& out, R&& r) {
  out.emit(std::forward<R>(r));
}
template <class T>
void emit_result(outlet& out, many<T>&& results) {
  for (T& r : results)
    out.emit(std::move(r));
}
template <class T>
void emit_result(outlet& out, std::optional<T>&& result) {
  if (result)
    out.emit(std::move(*result));
}

template <class R>
struct results {
  static kind_set kinds() { return encodes_to<R>(); }
};
template <class T>
struct results<many<T>> : results<T> {};
template <class T>
struct results<std::optional<T>> : results<T> {};
template <>
struct results<void> {
  static kind_set kinds() { return {}; }
};

template <class R, class D, bool WithOutlet>
struct shape {
  using result = R;
  using parameter = D;

  static kind_set accepts() {
    return esp::accepts<std::remove_cvref_t<D>>();
  }
  static kind_set emits() {
    if constexpr (WithOutlet)
      return {};
    else
      return results<R>::kinds();
  }
  template <class F>
  static void call(F& f, datum& in, outlet& out) {
    using V = std::remove_cvref_t<D>;
    // A value that others share is looked at where it is.
    if constexpr (std::is_same_v<D, const V&> && !std::is_same_v<V, term>)
      if (in.holds<V>())
        return emit(f, in.as<V>(), out);
    emit(f, argument<V>(in), out);
  }

private:
  template <class F, class A>
  static void emit(F& f, A&& a, outlet& out) {
    if constexpr (WithOutlet && std::is_void_v<R>)
      f(std::forward<A>(a), out);
    else if constexpr (WithOutlet)
      emit_result(out, f(std::forward<A>(a), out));
    else if constexpr (std::is_void_v<R>)
      f(std::forward<A>(a));
    else
      emit_result(out, f(std::forward<A>(a)));
  }
};

template <class F>
struct signature;
template <class R, class D>
struct signature<R (*)(D)> : shape<R, D, false> {};
template <class R, class D>
struct signature<R (*)(D, outlet&)> : shape<R, D, true> {};
template <class C, class R, class D>
struct signature<R (C::*)(D)> : shape<R, D, false> {};
template <class C, class R, class D>
struct signature<R (C::*)(D) const> : shape<R, D, false> {};
template <class C, class R, class D>
struct signature<R (C::*)(D, outlet&)> : shape<R, D, true> {};
template <class C, class R, class D>
struct signature<R (C::*)(D, outlet&) const> : shape<R, D, true> {};
template <class F>
  requires requires { &F::operator(); }
struct signature<F> : signature<decltype(&F::operator())> {};

// Stands for the init argument, whatever type the constructor wants.
template <class State>
struct init_argument {
  const term& value;

  template <class T>
    requires(decodable<T> && !std::is_same_v<T, State>
             && !std::is_same_v<T, saved_state>)
  operator T() const {
    auto decoded = from_term<T>(value);
    if (!decoded)
      throw decode_error(decoded.error());
    return std::move(*decoded);
  }
};

template <class State>
concept has_fields = requires { State::fields(); };
template <class State>
concept has_state = requires(const State& s) {
  { s.state() } -> std::convertible_to<term>;
  State(saved_state{});
};
template <class State>
concept has_flush = requires(State& s, outlet& o) { s.flush(o); };
template <class State>
concept has_code_change = requires(const term& t) {
  { State::code_change(t, t, t) } -> std::same_as<State>;
};
template <class State>
concept has_code_change_down = requires(const State& s, const term& t) {
  { s.code_change_down(t, t) } -> std::convertible_to<term>;
};

// Without `args` a state that can be made without is; an aggregate's fields()
// are what `args` may set.
template <class State>
void* create_state(const term& args) {
  if constexpr (std::is_default_constructible_v<State>)
    if (args.is_atom("undefined"))
      return new State();
  if constexpr (std::is_aggregate_v<State> && has_fields<State>) {
    auto decoded = from_term<State>(args);
    if (!decoded)
      throw decode_error(decoded.error());
    return new State(std::move(*decoded));
  } else if constexpr (!std::is_aggregate_v<State>
                       && std::is_constructible_v<State,
                                                  init_argument<State>>) {
    return new State(init_argument<State>{args});
  } else {
    return new State();
  }
}

template <class State>
State* state_of_fields(const term& t) {
  auto decoded = from_term<State>(t);
  if (!decoded)
    throw decode_error(decoded.error());
  return new State(std::move(*decoded));
}

template <class State>
void call_state(void* state, datum& in, outlet& out) {
  signature<State>::call(*static_cast<State*>(state), in, out);
}

ESP_API std::string_view type_name(const char* mangled); // demangled, kept

} // namespace detail

// What ESP_PLUGIN's body is given as `plugin`.
class plugin_registry {
public:
  explicit plugin_registry(void* registry) : registry_(registry) {}

  // A stateless task.
  template <class R, class... Args>
  void task(std::string_view name, R (*function)(Args...),
            task_options options = {}) {
    using function_type = R (*)(Args...);
    using s = detail::signature<function_type>;
    detail::task_entry e{};
    e.name = name;
    e.type = "function";
    e.options = options;
    e.accepts = s::accepts();
    e.emits = s::emits();
    e.function = reinterpret_cast<void (*)()>(function);
    e.call = [](void* self, datum& in, outlet& out) {
      auto f = reinterpret_cast<function_type>(self);
      s::call(f, in, out);
    };
    detail::add_task(registry_, e);
  }

  // A stateful task: one State for each node, made by its constructor from
  // the init argument `args` (any decodable type; the default constructor
  // ignores it).
  template <class State>
  void task(std::string_view name, task_options options = {}) {
    using s = detail::signature<State>;
    detail::task_entry e{};
    e.name = name;
    e.type = detail::type_name(typeid(State).name());
    e.options = options;
    e.accepts = s::accepts();
    e.emits = s::emits();
    e.create = detail::create_state<State>;
    e.destroy = [](void* p) noexcept { delete static_cast<State*>(p); };
    e.call = detail::call_state<State>;
    if constexpr (detail::has_flush<State>)
      e.flush = [](void* p, outlet& out) {
        static_cast<State*>(p)->flush(out);
      };
    if constexpr (detail::has_state<State>) {
      e.get_state = [](const void* p) -> term {
        return static_cast<const State*>(p)->state();
      };
      e.replace_state = [](void* p, const term& t) {
        *static_cast<State*>(p) = State(saved_state{t});
      };
    } else if constexpr (detail::has_fields<State>) {
      e.get_state = [](const void* p) {
        return to_term(*static_cast<const State*>(p));
      };
      e.replace_state = [](void* p, const term& t) {
        auto decoded = from_term<State>(t);
        if (!decoded)
          throw decode_error(decoded.error());
        *static_cast<State*>(p) = std::move(*decoded);
      };
    }
    if constexpr (detail::has_code_change<State>)
      e.code_change = [](const term& old_vsn, const term& old_state,
                         const term& extra) -> void* {
        return new State(State::code_change(old_vsn, old_state, extra));
      };
    else if constexpr (detail::has_state<State>)
      e.code_change = [](const term&, const term& old_state,
                         const term&) -> void* {
        return new State(saved_state{old_state});
      };
    else if constexpr (detail::has_fields<State>)
      e.code_change = [](const term&, const term& old_state,
                         const term&) -> void* {
        return detail::state_of_fields<State>(old_state);
      };
    if constexpr (detail::has_code_change_down<State>)
      e.code_change_down = [](const void* p, const term& to_vsn,
                              const term& extra) -> term {
        return static_cast<const State*>(p)->code_change_down(to_vsn, extra);
      };
    detail::add_task(registry_, e);
  }

private:
  void* registry_;
};

} // namespace esp

// Defines the plugin `name` (an identifier: the name that templates use) of
// that version; the braces that follow register its tasks on `plugin`.
#define ESP_PLUGIN(name, version)                                              \
  static void esp_plugin_tasks_(::esp::plugin_registry& plugin);               \
  extern "C" ESP_API const ::esp::detail::plugin_entry esp_plugin_entry;       \
  const ::esp::detail::plugin_entry esp_plugin_entry                           \
      = {::esp::abi_number, #name, version, [](void* registry) {               \
           ::esp::plugin_registry plugin(registry);                            \
           esp_plugin_tasks_(plugin);                                          \
         }};                                                                   \
  static void esp_plugin_tasks_(                                               \
      [[maybe_unused]] ::esp::plugin_registry& plugin)
