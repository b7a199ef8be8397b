#include "node/spawned.hpp"

#include "esp/process.hpp"

#include "node/node.hpp"
#include "node/stack_of_throw.hpp"

#include <cxxabi.h>

#include <cstdlib>
#include <exception>
#include <memory>
#include <system_error>
#include <typeinfo>

namespace esp::node {

namespace {

std::string type_text(const std::type_info* type) {
  if (type == nullptr)
    return "unknown";
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(
      abi::__cxa_demangle(type->name(), nullptr, nullptr, &status), &std::free);
  return status == 0 ? text.get() : type->name();
}

term cpp_exception(const std::type_info* type, std::string_view what) {
  static const atom tag("cpp_exception");
  return term::tuple({term::tuple({tag, term::binary(type_text(type)),
                                   term::binary(what.substr(0, 1'024))}),
                      stack_of_throw()});
}

} // namespace

term reason_of_current_exception() {
  static const atom system_limit("system_limit");
  try {
    throw;
  } catch (const exit_signal& e) {
    return e.reason();
  } catch (const std::system_error& e) {
    if (std::string_view(e.what()).starts_with("system_limit"))
      return system_limit;
    return cpp_exception(&typeid(e), e.what());
  } catch (const std::exception& e) {
    return cpp_exception(&typeid(e), e.what());
  } catch (...) {
    return cpp_exception(abi::__cxa_current_exception_type(), "");
  }
}

bool is_orderly(const term& reason) noexcept {
  return reason.is_atom("normal") || reason.is_atom("shutdown")
         || reason.is_tagged("shutdown", 2);
}

spawned_process::spawned_process(node& home, std::uint64_t number,
                                 std::function<void()> body, std::string name)
    : process(home, number), body_(std::move(body)), name_(std::move(name)) {}

// Asked in each run(), after the control messages: the first time is the
// body's. What arrives stays where it is.
bool spawned_process::can_take_data() {
  static const atom normal("normal");
  if (std::exchange(has_begun_, true))
    return false;
  bool is_error = false;
  term reason = normal;
  try {
    body_();
  } catch (const exit_signal& e) {
    reason = e.reason();
  } catch (...) {
    is_error = true;
    reason = reason_of_current_exception();
  }
  body_ = nullptr; // what it captured goes before links and monitors fire
  if (is_error && is_alive())
    home().on_crash(*this, reason);
  finish(reason);
  return false;
}

void spawned_process::ended(const term&) {
  body_ = nullptr;
}

} // namespace esp::node
