#include "esp/datum.hpp"

namespace esp {

template <>
const value_type datum::type_of<term> = {
    sizeof(term),
    nullptr,
    [](void* to, const void* from) {
      ::new (to) term(*static_cast<const term*>(from));
    },
    [](void* v) noexcept { static_cast<term*>(v)->~term(); },
    [](const void* v) { return *static_cast<const term*>(v); },
};

datum::shared* datum::make_box(std::size_t size) {
  auto* const b = static_cast<shared*>(
      ::operator new(offsetof(shared, value) + size));
  ::new (&b->references) std::atomic<std::uint32_t>(1);
  return b;
}

void datum::destroy() noexcept {
  if (!boxed_) {
    type_->destroy(storage_);
  } else if (box()->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    if (type_->destroy != nullptr)
      type_->destroy(box()->value);
    ::operator delete(box());
  }
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
    if (type_->move != nullptr)
      type_->move(b->value, storage_);
    else
      std::memcpy(b->value, storage_, type_->size);
    std::memcpy(storage_, &b, sizeof b);
    boxed_ = true;
  }
  box()->references.fetch_add(1, std::memory_order_relaxed);
  std::memcpy(d.storage_, storage_, sizeof(shared*));
  d.type_ = type_;
  d.boxed_ = true;
  return d;
}

} // namespace esp
