// What one user of tracing has asked for: patterns, and what new processes
// get. Up to OTP 26 all tools share one; since then each has its own.

#pragma once

#include "match/spec.hpp"
#include "trace/flags.hpp"
#include "trace/tracer.hpp"

#include <map>
#include <memory>
#include <optional>
#include <utility>

namespace esp::trace {

// `global` and `local` are two ways to trace a function, which has one of them.
struct call_pattern {
  bool is_local = false;
  match::spec_ptr spec; // null: all is told
};

// Of send or receive.
struct message_pattern {
  bool is_told = true;
  match::spec_ptr spec;
};

struct session {
  tracer_ptr tracer; // of its own; null: each process has its own
  std::map<std::pair<atom, atom>, call_pattern> calls; // module, function
  message_pattern send, receive;
  flags of_new = 0;
  tracer_ptr tracer_of_new;
};

using session_ptr = std::shared_ptr<session>;

} // namespace esp::trace
