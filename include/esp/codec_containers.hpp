// The codecs of containers; part of codec.hpp.

#pragma once

#include "esp/codec.hpp"

#include <cstddef>
#include <map>
#include <optional>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace esp {

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

} // namespace esp
