// Where data go that a co-op cannot keep: dead_letter => pid() | Name |
// {Name, Node}. Nothing waits here: what the connection has no room for is not
// sent, and whoever asked counts it.

#pragma once

#include "base/spinlock.hpp"
#include "coop/spec.hpp"
#include "node/node.hpp"

#include <boost/intrusive_ptr.hpp>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>

namespace esp::coop {

// One for the members that a co-op has in this home. Thread safe.
class dead_letters
    : public boost::intrusive_ref_counter<dead_letters,
                                          boost::thread_safe_counter> {
public:
  dead_letters(node::node& home, receiver_spec to)
      : home_(home), to_(std::move(to)) {}

  // Before data can come.
  void set_head(const pid& head);

  // {coop_dead_letter, Head, NodeName, Datum, Reason}, if there is somebody to
  // have it, and room on the way. Never blocks. A dead letter that is lost
  // once more is not sent again.
  bool send(const pid& from, atom node_name, const term& datum,
            const term& reason);

private:
  node::node& home_;
  const receiver_spec to_;
  spinlock lock_;
  pid head_; // under lock_
};
using dead_letters_ptr = boost::intrusive_ptr<dead_letters>;

} // namespace esp::coop
