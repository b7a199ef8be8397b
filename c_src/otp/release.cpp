#include "otp/release.hpp"

#include "node/remote_call.hpp"

#include <charconv>
#include <map>
#include <mutex>
#include <utility>

namespace esp::otp {

namespace {

struct life {
  std::uint32_t creation;
  bool wraps;
};

// "5.1" and later. Not a version at all is taken for a newer one.
bool is_wrapping(std::string_view version) {
  int major = 0, minor = 0;
  const char* const end = version.data() + version.size();
  const auto first = std::from_chars(version.data(), end, major);
  if (first.ec != std::errc())
    return true;
  if (first.ptr != end && *first.ptr == '.')
    std::from_chars(first.ptr + 1, end, minor);
  return std::pair(major, minor) >= std::pair(5, 1);
}

} // namespace

bool wraps_state(atom node_name) {
  static std::mutex mutex;
  static auto* const known = new std::map<atom, life>;
  node::process* const me = node::process::current();
  if (me == nullptr || node_name == me->home().name())
    return true;
  const auto p = me->home().connections().find(node_name);
  const std::uint32_t creation = p ? p->creation() : 0;
  {
    const std::lock_guard lock(mutex);
    const auto it = known->find(node_name);
    if (it != known->end() && it->second.creation == creation)
      return it->second.wraps;
  }
  const auto asked = node::remote_call(
      node_name, "application", "get_key",
      term::list({atom("stdlib"), atom("vsn")}), milliseconds(5'000));
  if (!asked || !asked->value.is_tagged("ok", 2))
    return true;
  const auto version = asked->value.element(1).as_iodata();
  const bool wraps = !version || is_wrapping(*version);
  const std::lock_guard lock(mutex);
  (*known)[node_name] = {creation, wraps};
  return wraps;
}

answer apply_at(atom node_name, const term& fun, const term& arguments) {
  auto done = node::remote_call(node_name, "erlang", "apply",
                                term::list({fun, arguments}),
                                infinity);
  if (!done)
    return refusal{term::tuple({atom("exit"),
                                atom(name(done.error().code))})};
  if (done->how == "return")
    return std::move(done->value);
  return refusal{term::tuple({done->how, done->value})};
}

} // namespace esp::otp
