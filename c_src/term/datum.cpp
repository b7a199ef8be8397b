#include "esp/datum.hpp"

namespace esp {

template <>
const value_type datum::type_of<term> = {
    sizeof(term),
    [](void* to, void* from) noexcept {
      term* const source = static_cast<term*>(from);
      ::new (to) term(std::move(*source));
      source->~term();
    },
    [](void* to, const void* from) {
      ::new (to) term(*static_cast<const term*>(from));
    },
    [](void* v) noexcept { static_cast<term*>(v)->~term(); },
    [](const void* v) { return *static_cast<const term*>(v); },
    true,
};

datum::shared* datum::make_box(std::size_t size) {
  auto* const b = static_cast<shared*>(
      ::operator new(offsetof(shared, value) + size));
  ::new (&b->references) std::atomic<std::uint32_t>(1);
  return b;
}

void datum::take(datum& other) noexcept {
  if (type_ == nullptr)
    return;
  if (boxed_)
    std::memcpy(storage_, other.storage_, sizeof(shared*));
  else
    type_->move(storage_, other.storage_);
  other.type_ = nullptr;
  other.boxed_ = false;
}

void datum::reset() noexcept {
  if (type_ == nullptr)
    return;
  if (!boxed_) {
    type_->destroy(storage_);
  } else if (box()->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    type_->destroy(box()->value);
    ::operator delete(box());
  }
  type_ = nullptr;
  boxed_ = false;
}

datum datum::share() {
  datum d;
  if (!boxed_ && type_ == &type_of<term>) {
    type_->copy(d.storage_, storage_);
    d.type_ = type_;
    return d;
  }
  if (!boxed_) { // from here on both look at one value on the heap
    shared* const b = make_box(type_->size);
    type_->move(b->value, storage_);
    std::memcpy(storage_, &b, sizeof b);
    boxed_ = true;
  }
  box()->references.fetch_add(1, std::memory_order_relaxed);
  std::memcpy(d.storage_, storage_, sizeof(shared*));
  d.type_ = type_;
  d.boxed_ = true;
  return d;
}

term datum::to_term() const { return type_->encode(address()); }

} // namespace esp
