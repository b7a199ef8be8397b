// A value on its way through a co-op: a C++ value as long as it stays between
// native nodes of one image, a term once it leaves for Erlang, for `sys` or
// for another image. Task authors do not meet it; outlet and the codec do.

#pragma once

#include "esp/codec.hpp"
#include "esp/term.hpp"

#include <atomic>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

namespace esp {

// What is to be known of a type to carry it about. One object for each type
// and image: two images never agree on an address, so their values meet as
// terms, however alike the types look.
struct value_type {
  std::size_t size;
  // Leaves `from` destroyed; null: its bytes are all that it takes.
  void (*move)(void* to, void* from) noexcept;
  void (*copy)(void* to, const void* from);
  void (*destroy)(void* v) noexcept; // null: nothing to do
  term (*encode)(const void* v);
};

// Types of which a moved one and its destroyed source are the same bytes
// elsewhere. Specialise it for those of your own.
template <class T>
inline constexpr bool is_relocatable
    = std::is_trivially_copyable_v<T> || std::is_same_v<T, term>
      || std::is_same_v<T, atom>;
template <class T>
inline constexpr bool is_relocatable<std::unique_ptr<T>> = true;
template <class T>
inline constexpr bool is_relocatable<std::vector<T>> = true;

class ESP_API datum {
public:
  datum() noexcept = default; // empty; only to be assigned to
  datum(datum&& other) noexcept { take(other); }
  datum& operator=(datum&& other) noexcept {
    if (this != &other) {
      reset();
      take(other);
    }
    return *this;
  }
  ~datum() { reset(); }

  template <class T>
  static datum of(T&& value);

  bool empty() const noexcept { return type_ == nullptr; }
  template <class T>
  bool holds() const noexcept {
    return type_ == &type_of<std::remove_cvref_t<T>>;
  }

  // The value, of which holds<T>() is true. Shared values must not change.
  template <class T>
  const T& as() const noexcept {
    return *static_cast<const T*>(address());
  }
  // Moves the value out if nobody shares it, else copies it.
  template <class T>
  T take_as() {
    if (boxed_ && box()->references.load(std::memory_order_acquire) > 1)
      return as<T>();
    return std::move(*static_cast<T*>(address()));
  }

  // Another datum of the same value: terms and small trivial values are
  // copied, others shared from now on.
  datum share();

  term to_term() const {
    return holds<term>() ? as<term>() : type_->encode(address());
  }

  template <class T>
  static const value_type type_of;

private:
  static constexpr std::size_t capacity = 32; // a std::string moves, too
  struct shared {
    std::atomic<std::uint32_t> references;
    alignas(std::max_align_t) std::byte value[1];
  };

  shared* box() const noexcept {
    shared* b = nullptr;
    std::memcpy(&b, storage_, sizeof b);
    return b;
  }
  void* address() noexcept { return boxed_ ? box()->value : storage_; }
  const void* address() const noexcept {
    return boxed_ ? box()->value : storage_;
  }
  // This one is empty.
  void take(datum& other) noexcept {
    if (other.type_ == nullptr)
      return;
    type_ = std::exchange(other.type_, nullptr);
    boxed_ = other.boxed_;
    if (boxed_ || type_->move == nullptr)
      std::memcpy(storage_, other.storage_, capacity);
    else
      type_->move(storage_, other.storage_);
  }
  void reset() noexcept {
    if (type_ != nullptr && (boxed_ || type_->destroy != nullptr))
      destroy();
    type_ = nullptr;
  }
  void destroy() noexcept;
  static shared* make_box(std::size_t size);

  const value_type* type_ = nullptr;
  alignas(8) std::byte storage_[capacity];
  bool boxed_ = false;
};

template <class T>
inline const value_type datum::type_of = {
    sizeof(T),
    is_relocatable<T> ? nullptr
                      : +[](void* to, void* from) noexcept {
                          T* const source = static_cast<T*>(from);
                          ::new (to) T(std::move(*source));
                          source->~T();
                        },
    [](void* to, const void* from) {
      if constexpr (std::is_copy_constructible_v<T>)
        ::new (to) T(*static_cast<const T*>(from));
    },
    std::is_trivially_destructible_v<T>
        ? nullptr
        : +[](void* v) noexcept { static_cast<T*>(v)->~T(); },
    [](const void* v) -> term {
      if constexpr (std::is_same_v<T, term>)
        return *static_cast<const term*>(v);
      else
        return esp::to_term<T>(*static_cast<const T*>(v));
    },
};

// Terms belong to every image.
template <>
ESP_API const value_type datum::type_of<term>; // declared; see datum.cpp

template <class T>
datum datum::of(T&& value) {
  using V = std::remove_cvref_t<T>;
  datum d;
  if constexpr (sizeof(V) <= capacity && alignof(V) <= 8
                && std::is_nothrow_move_constructible_v<V>) {
    ::new (static_cast<void*>(d.storage_)) V(std::forward<T>(value));
  } else {
    static_assert(alignof(V) <= alignof(std::max_align_t));
    shared* const b = make_box(sizeof(V));
    try {
      ::new (static_cast<void*>(b->value)) V(std::forward<T>(value));
    } catch (...) {
      ::operator delete(b);
      throw;
    }
    std::memcpy(d.storage_, &b, sizeof b);
    d.boxed_ = true;
  }
  d.type_ = &type_of<V>;
  return d;
}

} // namespace esp
