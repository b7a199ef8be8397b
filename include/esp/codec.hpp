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
#include "esp/coder.hpp"
#include "esp/error.hpp"
#include "esp/kind_set.hpp"
#include "esp/term.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace esp {

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

#include "esp/codec_containers.hpp"
#include "esp/codec_fields.hpp"
