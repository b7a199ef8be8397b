#include "otp/release.hpp"

#include "esp/process.hpp"

#include <charconv>
#include <map>
#include <mutex>
#include <utility>

namespace esp::otp {

namespace {

using namespace std::chrono_literals;
using clock = node::process::clock;

const atom error_("error"), exit_("exit");

// erpc:execute_call/4 there, and the exit reason of its worker: {Ref, return,
// V} and the like, or a reason of the connection or of a node that has not
// got it (protocol.md, section 8).
std::optional<term> remote_call(node::process& me, atom at, atom module,
                                atom function, const term& args,
                                clock::time_point until) {
  auto& home = me.home();
  const ref r = home.make_ref();
  me.expect(r, at);
  static const atom erpc("erpc"), execute_call("execute_call"),
      monitor("monitor");
  home.send_spawn_request(
      at, {r, me.pid(), me.leader(), erpc, execute_call, 4,
           term::list({monitor}), term::list({r, module, function, args}),
           std::nullopt});
  std::optional<term> reason;
  for (;;) {
    const auto a = me.await(r, until);
    if (!a)
      break;
    if (a->is_tagged("DOWN", 5)) {
      reason = a->element(4);
      break;
    }
    if (a->is_tagged("spawn_reply", 3) && a->element(2).kind() == kind::atom) {
      reason = a->element(2);
      break;
    }
  }
  me.forget(r);
  return reason;
}

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
  const auto reason = remote_call(
      *me, node_name, atom("application"), atom("get_key"),
      term::list({atom("stdlib"), atom("vsn")}), clock::now() + 5s);
  if (!reason || reason->arity() != 3
      || !reason->element(2).is_tagged("ok", 2))
    return true;
  const auto version = reason->element(2).element(1).as_iodata();
  const bool wraps = !version || is_wrapping(*version);
  const std::lock_guard lock(mutex);
  (*known)[node_name] = {creation, wraps};
  return wraps;
}

answer apply_at(atom node_name, const term& fun, const term& argument) {
  node::process* const me = node::process::current();
  const auto reason = remote_call(
      *me, node_name, atom("erlang"), atom("apply"),
      term::list({fun, term::list({argument})}), clock::time_point::max());
  if (!reason)
    return refusal{term::tuple({exit_, atom("timeout")})};
  if (reason->arity() >= 3 && reason->kind() == kind::tuple) {
    const term how = reason->element(1);
    if (how.is_atom("return"))
      return reason->element(2);
    if (how.is_atom("throw") || how.is_atom("exit") || how.is_atom("error"))
      return refusal{term::tuple({how, reason->element(2)})};
  }
  return refusal{term::tuple({exit_, *reason})};
}

} // namespace esp::otp
