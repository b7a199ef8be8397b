#include "coop/dead_letters.hpp"

#include <mutex>

namespace esp::coop {

void dead_letters::set_head(const pid& head) {
  const std::lock_guard guard(lock_);
  head_ = head;
}

bool dead_letters::send(const pid& from, atom node_name, const term& datum,
                        const term& reason) {
  static const atom tag("coop_dead_letter");
  if (to_.what == receiver_spec::kind::none
      || datum.is_tagged("coop_dead_letter", 5))
    return false;
  const bool is_name = to_.what == receiver_spec::kind::name;
  const atom at = is_name ? to_.node : to_.to.node;
  if (at != home_.name())
    if (const auto p = home_.connections().find(at); p && p->is_congested())
      return false;
  pid head;
  {
    const std::lock_guard guard(lock_);
    head = head_;
  }
  const term letter = term::tuple({tag, head, node_name, datum, reason});
  if (is_name)
    home_.send_message(from, to_.name, at, letter);
  else
    home_.send_message(from, to_.to, letter);
  return true;
}

} // namespace esp::coop
