// A call of a task that somebody traces, in the shape that a task in Erlang
// has: Plugin:Task(State, Datum) -> {State, none | Result | ...}.

#pragma once

#include "coop/emitter.hpp"
#include "node/tracing.hpp"

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

namespace esp::coop {

// In the place of the emitter, whose results it sees.
class traced_task final : public emitter {
public:
  traced_task(emitter& to, std::unique_ptr<node::traced_call> call)
      : to_(to), call_(std::move(call)) {}

  void emit(datum&& d) override;
  bool emit_to(std::string_view node, datum&& d) override;
  void emit_to(const pid& late, datum&& d) override;

  void returned(const std::function<term()>& state);
  void raised(); // in a handler

private:
  void note(const term& to, const datum& d);
  term value(const term& state) const;

  struct result {
    term to; // [] if to whom it goes is not the task's to say
    term value;
  };
  static constexpr std::size_t most_results = 1'000;

  emitter& to_;
  const std::unique_ptr<node::traced_call> call_;
  std::vector<result> results_;
};

// What is shown of a datum; 'opaque' if its type does not become a term.
term shown(const datum& d);

} // namespace esp::coop
