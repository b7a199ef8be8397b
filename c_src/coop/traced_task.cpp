#include "coop/traced_task.hpp"

#include "esp/plugin.hpp"
#include "esp/process.hpp"

#include "coop/dataflow.hpp"
#include "node/spawned.hpp"

#include <algorithm>

namespace esp::coop {

term shown(const datum& d) {
  static const atom opaque("opaque");
  try {
    return d.empty() ? term() : d.to_term();
  } catch (const std::exception&) {
    return opaque;
  }
}

void traced_task::note(const term& to, const datum& d) {
  if (results_.size() < most_results)
    results_.push_back({to, shown(d)});
}

void traced_task::emit(datum&& d) {
  note(term(), d);
  to_.emit(std::move(d));
}
bool traced_task::emit_to(std::string_view node, datum&& d) {
  note(atom(node), d);
  return to_.emit_to(node, std::move(d));
}
void traced_task::emit_to(const pid& late, datum&& d) {
  note(late, d);
  to_.emit_to(late, std::move(d));
}

// As coop:task/3 has it.
term traced_task::value(const term& state) const {
  static const atom none("none"), many("many"), to("to"), all_("all");
  if (results_.empty())
    return term::tuple({state, none});
  const bool chosen = std::any_of(
      results_.begin(), results_.end(),
      [](const result& r) { return r.to != term(); });
  if (!chosen && results_.size() == 1)
    return term::tuple({state, results_.front().value});
  std::vector<term> all;
  for (const auto& r : results_)
    all.push_back(chosen ? term::tuple({r.to == term() ? term(all_) : r.to,
                                        r.value})
                         : r.value);
  return term::tuple({state, chosen ? to : many, term::list(all)});
}

void traced_task::returned(const std::function<term()>& state) {
  call_->returned([&] { return value(state()); });
}

void traced_task::raised() {
  static const atom error("error"), exit_("exit"),
      function_clause("function_clause");
  try {
    throw;
  } catch (const exit_signal& e) {
    call_->raised(exit_, e.reason());
  } catch (const decode_error&) {
    call_->raised(error, function_clause);
  } catch (const bad_result& e) {
    call_->raised(error, e.reason());
  } catch (...) {
    const term reason = node::reason_of_current_exception();
    call_->raised(error, reason.arity() == 2 ? reason.element(0) : reason);
  }
}

} // namespace esp::coop
