#include "backtrace/thrown.hpp"

#include "base/spinlock.hpp"

#include <array>
#include <cstring>
#include <cxxabi.h>
#include <dlfcn.h>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <typeinfo>
#include <unwind.h>
#include <utility>

namespace esp::backtrace {

namespace {

using destructor = void (*)(void*);
using throw_function = void (*)(void*, std::type_info*, destructor);

// Lives as long as the exception, whose destructor it stands in for.
struct record {
  record* next;
  const void* exception;
  destructor destroy;
  std::size_t depth;
  std::array<std::uintptr_t, max_depth> at;
};

// By address; many, since threads that throw all the time should not meet.
// Never destroyed: who knows what is thrown at the very end.
struct {
  spinlock lock;
  record* first = nullptr;
} constinit table[64];

auto& part_of(const void* exception) {
  return table[(reinterpret_cast<std::uintptr_t>(exception) >> 6) % 64];
}

void keep(record* r) {
  auto& part = part_of(r->exception);
  const std::lock_guard guard(part.lock);
  r->next = std::exchange(part.first, r);
}

void destroyed(void* exception) {
  auto& part = part_of(exception);
  record* found = nullptr;
  {
    const std::lock_guard guard(part.lock);
    for (auto** at = &part.first; *at != nullptr; at = &(*at)->next)
      if ((*at)->exception == exception) {
        found = std::exchange(*at, (*at)->next);
        break;
      }
  }
  const std::unique_ptr<record> r(found);
  if (r && r->destroy != nullptr)
    r->destroy(exception);
}

struct walk {
  record& to;
  std::uintptr_t from; // what is inside of it is ours
};

_Unwind_Reason_Code step(_Unwind_Context* context, void* arg) {
  auto& w = *static_cast<walk*>(arg);
  const auto at = static_cast<std::uintptr_t>(_Unwind_GetIP(context));
  if (w.to.depth == 0 && at != w.from)
    return _URC_NO_REASON;
  w.to.at[w.to.depth++] = at;
  return w.to.depth < max_depth ? _URC_NO_REASON : _URC_END_OF_STACK;
}

throw_function runtimes() {
  static const auto f
      = reinterpret_cast<throw_function>(::dlsym(RTLD_NEXT, "__cxa_throw"));
  return f;
}

// The first look-up is too much for a task's stack.
[[maybe_unused]] const throw_function looked_up = runtimes();

} // namespace

std::vector<std::uintptr_t> thrown_at() {
  // One pointer, to the object thrown: also of one that was thrown again, by
  // way of another exception_ptr.
  const std::exception_ptr current = std::current_exception();
  const void* exception = nullptr;
  static_assert(sizeof current == sizeof exception);
  std::memcpy(&exception, &current, sizeof exception);
  if (exception == nullptr)
    return {};
  std::vector<std::uintptr_t> all;
  all.reserve(max_depth);
  auto& part = part_of(exception);
  const std::lock_guard guard(part.lock);
  for (const auto* r = part.first; r != nullptr; r = r->next)
    if (r->exception == exception) {
      all.assign(r->at.data(), r->at.data() + r->depth);
      break;
    }
  return all;
}

} // namespace esp::backtrace

// In this namespace <cxxabi.h> declares it; extern "C" puts it into none.
namespace __cxxabiv1 {

extern "C" [[gnu::noinline, gnu::visibility("default")]] void
__cxa_throw(void* exception, std::type_info* type, void (*destroy)(void*)) {
  using namespace esp::backtrace;
  // Without memory it is thrown all the same.
  if (auto* const r = new (std::nothrow) record) {
    r->exception = exception;
    r->destroy = destroy;
    r->depth = 0;
    walk w{*r, reinterpret_cast<std::uintptr_t>(__builtin_return_address(0))};
    _Unwind_Backtrace(step, &w);
    keep(r);
    destroy = destroyed;
  }
  runtimes()(exception, type, destroy);
  __builtin_unreachable();
}

} // namespace __cxxabiv1
