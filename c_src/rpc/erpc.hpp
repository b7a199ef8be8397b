// Spawn requests: what erpc, rpc and erlang:spawn/4 and its kin ask of us.
// See erpc.erl and protocol.md, section 8.

#pragma once

#include "node/spawned.hpp"
#include "rpc/function_table.hpp"

#include <string>
#include <utility>
#include <variant>

namespace esp::served {

// What a process is asked to evaluate, by a process of that node; the terms are
// whatever came.
struct work {
  term module, name, args;
  atom caller;
};

// A process that calls a function of the table: `function` is {M, F, Arity},
// which is not what it was spawned with if that is erpc's.
class calling_process : public node::spawned_process {
public:
  calling_process(node::node& home, std::uint64_t number,
                  std::function<void()> body, std::string name, term function)
      : spawned_process(home, number, std::move(body), std::move(name)),
        function_(std::move(function)) {}

  const term& function() const noexcept { return function_; }
  // Tracing is controlled, and brought to the tracer, by such.
  bool may_be_traced() const noexcept override { return false; }

private:
  const term function_;
};

// The process that a SPAWN_REQUEST asks for, made and not yet begun: it calls
// the function of the table, or does erpc's execute_call/4 or execute_cast/3
// with one, and ends as a process on an Erlang node would have. The atom is
// badopt or system_limit. On any thread; `table` must outlive the process.
// `request` is as decoded: as many arguments as its arity says.
std::variant<node::process_ptr, atom>
spawn_for(node::node& home, const function_table& table,
          const dist::spawn_request& request);

// erlang:apply/3 with nobody waiting for the value: ends the process as on an
// Erlang node.
void evaluate(const function_table& table, const work& w);

// "m:f/2", for lines that say what a process was doing.
std::string text_of(const term& module, const term& name, const term& args);

// The exit reason of a process in which that was not caught.
term uncaught(const raised& e);

} // namespace esp::served
