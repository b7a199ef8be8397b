// The codec of structs with fields(); part of codec.hpp.

#pragma once

#include "esp/codec.hpp"
#include "esp/codec_containers.hpp"

#include <cstddef>
#include <optional>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace esp {

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

} // namespace esp
