// C++ values and Erlang terms, both ways:
//
//   integers of any width <-> integer, range checked    big_int <-> integer
//   double, float         <-> float (never an integer)  bool <-> true | false
//   std::string           <-> binary (taking a list of bytes too)
//   esp::binary           <-> binary                    esp::atom <-> atom
//   std::vector           <-> list                      std::pair, std::tuple
//   std::map, unordered_map <-> map                       <-> tuple
//   std::optional         <-> undefined, or the value
//   std::variant          <-> the first alternative that decodes
//   a struct with fields() <-> a map with atoms for keys
//   esp::pid, ref, port   <-> their namesakes           esp::term <-> any term
//
// A struct describes itself once:
//
//   struct point {
//     double x = 0, y = 0;
//     static constexpr auto fields() {
//       return esp::fields(esp::field("x", &point::x),
//                          esp::field("y", &point::y));
//     }
//   };
//
// Keys that a map has beyond the fields are let be; a missing one fails, but
// for an optional. Any other type joins by specialising esp::codec<T>, in
// terms of encode() and decode() of types that are known.

#pragma once

#include "esp/big_int.hpp"
#include "esp/error.hpp"
#include "esp/term.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace esp {

using binary = std::vector<std::byte>;

// A set of kinds of terms, for checks before anything runs: what one task
// emits and what the next accepts.
class kind_set {
public:
  constexpr kind_set() = default;
  constexpr kind_set(std::initializer_list<kind> kinds) {
    for (const kind k : kinds) {
      bits_ |= bit(k);
    }
  }
  static constexpr kind_set any() {
    kind_set s;
    s.bits_ = ~std::uint32_t{0};
    return s;
  }

  constexpr bool empty() const { return bits_ == 0; }
  constexpr bool contains(kind k) const { return (bits_ & bit(k)) != 0; }
  // Some term is in both.
  constexpr bool intersects(kind_set o) const { return (bits_ & o.bits_) != 0; }

  friend constexpr kind_set operator|(kind_set a, kind_set b) {
    a.bits_ |= b.bits_;
    return a;
  }
  friend constexpr bool operator==(kind_set, kind_set) = default;

private:
  static constexpr std::uint32_t bit(kind k) {
    return std::uint32_t{1} << static_cast<unsigned>(k);
  }
  std::uint32_t bits_ = 0;
};

// Writes one term, from its outside in: a header says how many terms come
// next. Not writing what a header promised makes finish() undefined.
class ESP_API encoder {
public:
  encoder() noexcept;
  encoder(const encoder&) = delete;
  encoder& operator=(const encoder&) = delete;
  ~encoder();

  void integer(std::int64_t v);
  void integer_unsigned(std::uint64_t v);
  void integer_big(const big_int& v);
  void floating(double v); // not finite: throws std::range_error
  void atom(esp::atom a);
  void atom(std::string_view utf8); // legal text, as a literal is
  void binary(std::span<const std::byte> bytes);
  void binary(std::string_view bytes);
  void string(std::string_view latin1); // a list of characters
  void nil();
  void tuple(std::size_t elements);
  void list(std::size_t elements); // 1 or more; then those and a tail
  void map(std::size_t pairs);     // then keys and values in turn
  void pid(const esp::pid& p);
  void ref(const esp::ref& r);
  void port(const esp::port& p);
  void value(const term& t);

  term finish(); // the term; nothing may be written after

private:
  std::byte* room(std::size_t n) { // for n bytes more; size_ is up to you
    if (capacity_ - size_ < n) {
      grow(n);
    }
    return data_ + size_;
  }
  void grow(std::size_t n);
  void put(const void* bytes, std::size_t n);

  std::byte* data_;
  std::size_t size_ = 0;
  std::size_t capacity_;
  detail::block* block_ = nullptr; // once `near_` is too small
  std::byte near_[256];
};

// Reads one term from its outside in. A reader that returns false or none has
// found another kind of term, or a value out of range, and stays where it is.
// `t` must outlive it.
class ESP_API decoder {
public:
  explicit decoder(const term& t) noexcept : p_(t.bytes().data()), of_(&t) {}

  kind peek() const noexcept;

  bool integer(std::int64_t& v) noexcept;
  bool integer_unsigned(std::uint64_t& v) noexcept;
  std::optional<big_int> integer_big();
  bool floating(double& v) noexcept;
  std::optional<esp::atom> atom();
  // The text of an atom, valid as long as the term; none for a latin-1 atom
  // beyond ASCII.
  std::optional<std::string_view> atom_name() noexcept;
  bool is_atom(std::string_view name) noexcept; // if so, it is behind
  bool text(std::string& v);                    // a binary or a list of bytes
  bool bytes(esp::binary& v);
  std::optional<esp::pid> pid();
  std::optional<esp::ref> ref();
  std::optional<esp::port> port();
  bool tuple(std::size_t& elements) noexcept; // then read that many
  bool map(std::size_t& pairs) noexcept;      // then keys and values in turn
  term value();
  void skip() noexcept;

  // A list: enter() it, then read one element after each next() that is true.
  // is_proper() tells, after the last, whether the tail was [].
  struct list_state {
    std::uint64_t left = 0;
    bool in_string = false;
    bool proper = false;
    std::uint64_t hint = 0; // how many elements there are at least
  };
  bool enter(list_state& l) noexcept;
  bool next(list_state& l) noexcept;

  // To try one reading and go back.
  struct mark {
    const std::byte* p;
    int byte;
  };
  mark here() const noexcept { return {p_, byte_}; }
  void back_to(mark m) noexcept {
    p_ = m.p;
    byte_ = m.byte;
  }

private:
  const std::byte* p_;
  const term* of_;
  int byte_ = -1; // in a list of bytes: the element to be read
};

// How T becomes a term and back:
//   static void encode(encoder&, const T&);
//   static std::optional<T> decode(decoder&);
//   static constexpr kind_set emits();   // all that encode() may write
//   static constexpr kind_set accepts(); // all that decode() may take
// The last two may be left out: anything.
template <class T>
struct codec;

template <class T>
concept encodable = requires(encoder& out, const T& v) {
  codec<std::remove_cvref_t<T>>::encode(out, v);
};
template <class T>
concept decodable = requires(decoder& in) {
  {
    codec<std::remove_cvref_t<T>>::decode(in)
    } -> std::same_as<std::optional<std::remove_cvref_t<T>>>;
};

template <class T>
void encode(encoder& out, const T& v) {
  codec<T>::encode(out, v);
}
template <class T>
std::optional<T> decode(decoder& in) {
  return codec<T>::decode(in);
}

template <class T>
requires encodable<T> term to_term(const T& v) {
  encoder out;
  codec<T>::encode(out, v);
  return out.finish();
}

namespace detail {
ESP_API error no_such_value(const term& t); // badarg, with the term's text
}

// The error is badarg; its text shows the beginning of the term.
template <class T>
requires decodable<T> result<T> from_term(const term& t) {
  decoder in(t);
  std::optional<T> v = codec<T>::decode(in);
  if (!v) {
    return detail::no_such_value(t);
  }
  return std::move(*v);
}

template <class T>
constexpr kind_set encodes_to() {
  using C = codec<std::remove_cvref_t<T>>;
  if constexpr (requires { C::emits(); }) {
    return C::emits();
  } else {
    return kind_set::any();
  }
}
template <class T>
constexpr kind_set accepts() {
  using C = codec<std::remove_cvref_t<T>>;
  if constexpr (requires { C::accepts(); }) {
    return C::accepts();
  } else {
    return kind_set::any();
  }
}
template <class T>
constexpr kind_set kinds_of() {
  return encodes_to<T>() | accepts<T>();
}

// --- numbers

template <>
struct codec<bool> {
  static void encode(encoder& out, bool v) { out.atom(v ? "true" : "false"); }
  static std::optional<bool> decode(decoder& in) {
    if (in.is_atom("true")) {
      return true;
    }
    if (in.is_atom("false")) {
      return false;
    }
    return std::nullopt;
  }
  static constexpr kind_set emits() { return {kind::atom}; }
  static constexpr kind_set accepts() { return {kind::atom}; }
};

template <std::integral T>
struct codec<T> {
  static_assert(sizeof(T) <= 8);
  static void encode(encoder& out, T v) {
    if constexpr (std::is_signed_v<T> || sizeof(T) < 8) {
      out.integer(static_cast<std::int64_t>(v));
    } else {
      out.integer_unsigned(v);
    }
  }
  static std::optional<T> decode(decoder& in) {
    const auto start = in.here();
    if constexpr (std::is_unsigned_v<T> && sizeof(T) == 8) {
      std::uint64_t v = 0;
      return in.integer_unsigned(v) ? std::optional<T>(static_cast<T>(v))
                                    : std::nullopt;
    } else {
      std::int64_t v = 0;
      if (in.integer(v)
          && v >= static_cast<std::int64_t>(std::numeric_limits<T>::min())
          && v <= static_cast<std::int64_t>(std::numeric_limits<T>::max())) {
        return static_cast<T>(v);
      }
      in.back_to(start);
      return std::nullopt;
    }
  }
  static constexpr kind_set emits() { return {kind::integer}; }
  static constexpr kind_set accepts() { return {kind::integer}; }
};

template <>
struct codec<big_int> {
  static void encode(encoder& out, const big_int& v) { out.integer_big(v); }
  static std::optional<big_int> decode(decoder& in) { return in.integer_big(); }
  static constexpr kind_set emits() { return {kind::integer}; }
  static constexpr kind_set accepts() { return {kind::integer}; }
};

template <std::floating_point T>
struct codec<T> {
  static void encode(encoder& out, T v) {
    out.floating(static_cast<double>(v));
  }
  static std::optional<T> decode(decoder& in) {
    const auto start = in.here();
    double v = 0;
    if (!in.floating(v)) {
      return std::nullopt;
    }
    if (v > static_cast<double>(std::numeric_limits<T>::max())
        || v < static_cast<double>(std::numeric_limits<T>::lowest())) {
      in.back_to(start);
      return std::nullopt;
    }
    return static_cast<T>(v);
  }
  static constexpr kind_set emits() { return {kind::floating}; }
  static constexpr kind_set accepts() { return {kind::floating}; }
};

// --- names, texts, identifiers, anything

template <>
struct codec<atom> {
  static void encode(encoder& out, esp::atom v) { out.atom(v); }
  static std::optional<esp::atom> decode(decoder& in) { return in.atom(); }
  static constexpr kind_set emits() { return {kind::atom}; }
  static constexpr kind_set accepts() { return {kind::atom}; }
};

template <>
struct codec<std::string> {
  static void encode(encoder& out, const std::string& v) { out.binary(v); }
  static std::optional<std::string> decode(decoder& in) {
    std::optional<std::string> v(std::in_place);
    return in.text(*v) ? std::move(v) : std::nullopt;
  }
  static constexpr kind_set emits() { return {kind::binary}; }
  static constexpr kind_set accepts() {
    return {kind::binary, kind::list, kind::nil};
  }
};

template <>
struct codec<std::string_view> { // only out: nobody would own the bytes
  static void encode(encoder& out, std::string_view v) { out.binary(v); }
  static constexpr kind_set emits() { return {kind::binary}; }
};
template <>
struct codec<const char*> {
  static void encode(encoder& out, const char* v) {
    out.binary(std::string_view(v));
  }
  static constexpr kind_set emits() { return {kind::binary}; }
};
template <std::size_t N>
struct codec<char[N]> { // a literal
  static void encode(encoder& out, const char (&v)[N]) {
    out.binary(std::string_view(v, N - 1));
  }
  static constexpr kind_set emits() { return {kind::binary}; }
};

template <>
struct codec<binary> {
  static void encode(encoder& out, const esp::binary& v) {
    out.binary(std::span<const std::byte>(v));
  }
  static std::optional<esp::binary> decode(decoder& in) {
    std::optional<esp::binary> v(std::in_place);
    return in.bytes(*v) ? std::move(v) : std::nullopt;
  }
  static constexpr kind_set emits() { return {kind::binary}; }
  static constexpr kind_set accepts() { return {kind::binary}; }
};

template <>
struct codec<pid> {
  static void encode(encoder& out, const esp::pid& v) { out.pid(v); }
  static std::optional<esp::pid> decode(decoder& in) { return in.pid(); }
  static constexpr kind_set emits() { return {kind::pid}; }
  static constexpr kind_set accepts() { return {kind::pid}; }
};
template <>
struct codec<ref> {
  static void encode(encoder& out, const esp::ref& v) { out.ref(v); }
  static std::optional<esp::ref> decode(decoder& in) { return in.ref(); }
  static constexpr kind_set emits() { return {kind::ref}; }
  static constexpr kind_set accepts() { return {kind::ref}; }
};
template <>
struct codec<port> {
  static void encode(encoder& out, const esp::port& v) { out.port(v); }
  static std::optional<esp::port> decode(decoder& in) { return in.port(); }
  static constexpr kind_set emits() { return {kind::port}; }
  static constexpr kind_set accepts() { return {kind::port}; }
};
template <>
struct codec<term> {
  static void encode(encoder& out, const term& v) { out.value(v); }
  static std::optional<term> decode(decoder& in) { return in.value(); }
};

// --- containers

template <class T>
struct codec<std::vector<T>> {
  static void encode(encoder& out,
                     const std::vector<T>& v) requires encodable<T> {
    if (!v.empty()) {
      out.list(v.size());
      for (const T& e : v) {
        codec<T>::encode(out, e);
      }
    }
    out.nil();
  }
  static std::optional<std::vector<T>>
  decode(decoder& in) requires decodable<T> {
    const auto start = in.here();
    std::optional<std::vector<T>> v(std::in_place);
    decoder::list_state l;
    if (!in.enter(l)) {
      return std::nullopt;
    }
    v->reserve(static_cast<std::size_t>(l.hint));
    while (in.next(l)) {
      std::optional<T> e = codec<T>::decode(in);
      if (!e) {
        in.back_to(start);
        return std::nullopt;
      }
      v->push_back(std::move(*e));
    }
    if (!l.proper) {
      in.back_to(start);
      return std::nullopt;
    }
    return v;
  }
  static constexpr kind_set emits() { return {kind::list, kind::nil}; }
  static constexpr kind_set accepts() { return {kind::list, kind::nil}; }
};

template <class... Ts>
struct codec<std::tuple<Ts...>> {
  static void encode(encoder& out,
                     const std::tuple<Ts...>& v) requires(encodable<Ts>&&...) {
    out.tuple(sizeof...(Ts));
    std::apply([&](const Ts&... e) { (codec<Ts>::encode(out, e), ...); }, v);
  }
  static std::optional<std::tuple<Ts...>>
  decode(decoder& in) requires(decodable<Ts>&&...) {
    const auto start = in.here();
    std::size_t n = 0;
    if (!in.tuple(n)) {
      return std::nullopt;
    }
    if (n == sizeof...(Ts)) {
      std::tuple<std::optional<Ts>...> parts;
      const bool all = std::apply(
          [&](std::optional<Ts>&... e) { return (take<Ts>(in, e) && ...); },
          parts);
      if (all) {
        return std::apply(
            [](std::optional<Ts>&... e) {
              return std::tuple<Ts...>(std::move(*e)...);
            },
            parts);
      }
    }
    in.back_to(start);
    return std::nullopt;
  }
  static constexpr kind_set emits() { return {kind::tuple}; }
  static constexpr kind_set accepts() { return {kind::tuple}; }

private:
  template <class T>
  static bool take(decoder& in, std::optional<T>& e) {
    e = codec<T>::decode(in);
    return e.has_value();
  }
};

template <class A, class B>
struct codec<std::pair<A, B>> {
  static void
  encode(encoder& out,
         const std::pair<A, B>& v) requires encodable<A> && encodable<B> {
    out.tuple(2);
    codec<A>::encode(out, v.first);
    codec<B>::encode(out, v.second);
  }
  static std::optional<std::pair<A, B>>
  decode(decoder& in) requires decodable<A> && decodable<B> {
    auto t = codec<std::tuple<A, B>>::decode(in);
    if (!t) {
      return std::nullopt;
    }
    return std::pair<A, B>(std::move(std::get<0>(*t)),
                           std::move(std::get<1>(*t)));
  }
  static constexpr kind_set emits() { return {kind::tuple}; }
  static constexpr kind_set accepts() { return {kind::tuple}; }
};

namespace detail {

template <class Map>
struct map_codec {
  using key = typename Map::key_type;
  using value = typename Map::mapped_type;

  static void encode(encoder& out,
                     const Map& v) requires encodable<key> && encodable<value> {
    out.map(v.size());
    for (const auto& [k, e] : v) {
      codec<key>::encode(out, k);
      codec<value>::encode(out, e);
    }
  }
  // Two keys that are one in C++ (<<"a">> and "a") fail: none is lost.
  static std::optional<Map>
  decode(decoder& in) requires decodable<key> && decodable<value> {
    const auto start = in.here();
    std::optional<Map> v(std::in_place);
    std::size_t n = 0;
    if (!in.map(n)) {
      return std::nullopt;
    }
    for (std::size_t i = 0; i < n; ++i) {
      std::optional<key> k = codec<key>::decode(in);
      std::optional<value> e;
      if (k) {
        e = codec<value>::decode(in);
      }
      if (!e || !v->emplace(std::move(*k), std::move(*e)).second) {
        in.back_to(start);
        return std::nullopt;
      }
    }
    return v;
  }
  static constexpr kind_set emits() { return {kind::map}; }
  static constexpr kind_set accepts() { return {kind::map}; }
};

} // namespace detail

template <class K, class V, class C, class A>
struct codec<std::map<K, V, C, A>> : detail::map_codec<std::map<K, V, C, A>> {};
template <class K, class V, class H, class E, class A>
struct codec<std::unordered_map<K, V, H, E, A>>
    : detail::map_codec<std::unordered_map<K, V, H, E, A>> {};

template <class T>
struct codec<std::optional<T>> {
  static void encode(encoder& out,
                     const std::optional<T>& v) requires encodable<T> {
    if (v) {
      codec<T>::encode(out, *v);
    } else {
      out.atom("undefined");
    }
  }
  static std::optional<std::optional<T>>
  decode(decoder& in) requires decodable<T> {
    if (in.is_atom("undefined")) {
      return std::optional<std::optional<T>>(std::in_place);
    }
    std::optional<T> v = codec<T>::decode(in);
    if (!v) {
      return std::nullopt;
    }
    return std::optional<std::optional<T>>(std::in_place, std::move(v));
  }
  static constexpr kind_set emits() {
    return esp::encodes_to<T>() | kind_set{kind::atom};
  }
  static constexpr kind_set accepts() {
    return esp::accepts<T>() | kind_set{kind::atom};
  }
};

template <class... Ts>
struct codec<std::variant<Ts...>> {
  static void
  encode(encoder& out,
         const std::variant<Ts...>& v) requires(encodable<Ts>&&...) {
    std::visit([&](const auto& e) { esp::encode(out, e); }, v);
  }
  static std::optional<std::variant<Ts...>>
  decode(decoder& in) requires(decodable<Ts>&&...) {
    std::optional<std::variant<Ts...>> v;
    (void)first<0>(in, v);
    return v;
  }
  static constexpr kind_set emits() { return (esp::encodes_to<Ts>() | ...); }
  static constexpr kind_set accepts() { return (esp::accepts<Ts>() | ...); }

private:
  template <std::size_t I>
  static bool first(decoder& in, std::optional<std::variant<Ts...>>& v) {
    if constexpr (I < sizeof...(Ts)) {
      using T = std::variant_alternative_t<I, std::variant<Ts...>>;
      const auto start = in.here();
      if (std::optional<T> e = codec<T>::decode(in)) {
        v.emplace(std::in_place_index<I>, std::move(*e));
        return true;
      }
      in.back_to(start);
      return first<I + 1>(in, v);
    } else {
      return false;
    }
  }
};

// --- structs

template <class Struct, class Member>
struct field_of {
  std::string_view name; // of the key, an atom
  Member Struct::*member;
};

template <class Struct, class Member>
constexpr field_of<Struct, Member> field(std::string_view name,
                                         Member Struct::*member) {
  return {name, member};
}
template <class... Fields>
constexpr std::tuple<Fields...> fields(Fields... f) {
  return {f...};
}

template <class T>
concept has_fields = std::is_class_v<T> && requires {
  T::fields();
};

namespace detail {
template <class T>
inline constexpr bool is_optional = false;
template <class T>
inline constexpr bool is_optional<std::optional<T>> = true;
} // namespace detail

template <has_fields T>
struct codec<T> {
  static void encode(encoder& out, const T& v) {
    std::apply(
        [&](const auto&... f) {
          out.map(sizeof...(f));
          ((out.atom(f.name), esp::encode(out, v.*(f.member))), ...);
        },
        T::fields());
  }
  static std::optional<T> decode(decoder& in) {
    const auto start = in.here();
    std::size_t n = 0;
    if (!in.map(n)) {
      return std::nullopt;
    }
    std::optional<T> v(std::in_place);
    if (!take(in, n, *v)) {
      in.back_to(start);
      return std::nullopt;
    }
    return v;
  }
  static constexpr kind_set emits() { return {kind::map}; }
  static constexpr kind_set accepts() { return {kind::map}; }

private:
  static bool take(decoder& in, std::size_t pairs, T& v) {
    return std::apply(
        [&](const auto&... f) {
          bool found[sizeof...(f) + 1] = {};
          for (std::size_t i = 0; i < pairs; ++i) {
            const auto name = in.atom_name();
            if (!name) {
              in.skip();
            }
            bool ok = true;
            std::size_t at = 0;
            const bool known =
                name
                && ((f.name == *name
                         ? (ok = member(in, v.*(f.member)), found[at] = true)
                         : (++at, false))
                    || ...);
            if (!ok) {
              return false;
            }
            if (!known) {
              in.skip();
            }
          }
          std::size_t at = 0;
          return ((found[at++]
                   || detail::is_optional<
                       std::remove_cvref_t<decltype(v.*(f.member))>>)&&...);
        },
        T::fields());
  }
  template <class Member>
  static bool member(decoder& in, Member& m) {
    std::optional<Member> e = codec<Member>::decode(in);
    if (!e) {
      return false;
    }
    m = std::move(*e);
    return true;
  }
};

// --- terms of mixed values

template <encodable... Ts>
term make_tuple(const Ts&... e) {
  encoder out;
  out.tuple(sizeof...(Ts));
  (encode(out, e), ...);
  return out.finish();
}

template <encodable... Ts>
term make_list(const Ts&... e) {
  encoder out;
  if constexpr (sizeof...(Ts) > 0) {
    out.list(sizeof...(Ts));
    (encode(out, e), ...);
  }
  out.nil();
  return out.finish();
}

// Keys and values in turn; keys must differ.
template <encodable... Ts>
term make_map(const Ts&... keys_and_values) {
  static_assert(sizeof...(Ts) % 2 == 0);
  encoder out;
  out.map(sizeof...(Ts) / 2);
  (encode(out, keys_and_values), ...);
  return out.finish();
}

} // namespace esp
