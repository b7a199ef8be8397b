// Those who take events from a tracer and bring them to whom they are for: on
// the fiber of a process of their own, which traps exits, until one comes, or a
// DOWN. Throws exit_signal.

#pragma once

#include "node/node.hpp"
#include "trace/tracer.hpp"

namespace esp::trace {

// A tracer that a process of this node takes from.
tracer_ptr make_tracer(node::process& taker);
// ... and one that is such a process, whatever it does with the events.
tracer_ptr make_tracer(node::node& home, const pid& of);

// To a process, on any node, and whatever else comes. A mailbox that grows is
// not sent to: a look at it every so many events.
void relay_to_process(tracer& from, const pid& to);
// To Fun(Event, State) on that node, which has made it.
void relay_to_fun(tracer& from, atom at, const term& fun, term state);

} // namespace esp::trace
