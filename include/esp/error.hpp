// What can go wrong, as values. Bytes and requests from outside come back as
// result<T>; exceptions are for users' tasks.

#pragma once

#include <cassert>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

// What a plugin may use of the host is marked; all else stays hidden.
#define ESP_API __attribute__((visibility("default")))

namespace esp {

enum class errc {
  truncated,     // more bytes are needed before anything can be said
  malformed,     // not what the protocol or the term format allows
  too_large,     // over a configured cap
  too_deep,      // nested deeper than the configured depth
  system_limit,  // a table of ours is full
  badarg,        // a value of the wrong type or range
  timeout,       // nothing came in time
  noproc,        // no such process
  noconnection,  // the node is not, or no longer, connected
  not_found,     // no such plugin, task, node, file
  refused,       // the other side, or a policy, said no
  already,       // taken, registered or loaded before
  io,            // the operating system said no; `what` has its words
};

// The name of the code, as the atom that Erlang callers see.
ESP_API std::string_view name(errc code) noexcept;

struct error {
  errc code = errc::malformed;
  std::string what; // what was expected and what came; may be empty

  friend bool operator==(const error&, const error&) = default;
};

// A T, or the error that came instead.
template <class T>
class [[nodiscard]] result {
public:
  using value_type = T;

  result(T value) : v_(std::in_place_index<0>, std::move(value)) {}
  result(esp::error e) : v_(std::in_place_index<1>, std::move(e)) {}
  result(errc code, std::string what = {})
      : v_(std::in_place_index<1>, esp::error{code, std::move(what)}) {}

  bool has_value() const noexcept { return v_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }

  T& value() & { return *check(std::get_if<0>(&v_)); }
  const T& value() const& { return *check(std::get_if<0>(&v_)); }
  T&& value() && { return std::move(*check(std::get_if<0>(&v_))); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return check(std::get_if<0>(&v_)); }
  const T* operator->() const { return check(std::get_if<0>(&v_)); }
  T value_or(T other) const& { return has_value() ? value() : other; }

  const esp::error& error() const { return *check(std::get_if<1>(&v_)); }

private:
  template <class P>
  static P* check(P* p) {
    assert(p != nullptr && "result read on the wrong side");
    return p;
  }
  std::variant<T, esp::error> v_;
};

template <>
class [[nodiscard]] result<void> {
public:
  result() = default;
  result(esp::error e) : e_(std::move(e)), ok_(false) {}
  result(errc code, std::string what = {})
      : e_{code, std::move(what)}, ok_(false) {}

  bool has_value() const noexcept { return ok_; }
  explicit operator bool() const noexcept { return ok_; }
  const esp::error& error() const {
    assert(!ok_);
    return e_;
  }

private:
  esp::error e_;
  bool ok_ = true;
};

} // namespace esp
