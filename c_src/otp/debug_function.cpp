#include "otp/debug_function.hpp"

#include "esp/process.hpp"

#include "base/log.hpp"
#include "node/spawned.hpp"
#include "otp/release.hpp"

#include <utility>

namespace esp::otp {

namespace {

constexpr std::size_t max_waiting = 1'000;

} // namespace

debug_function::debug_function(node::node& home, atom at, term id, term fun,
                               term state, bool has_own_id)
    : id_(std::move(id)),
      fun_(std::move(fun)),
      has_own_id_(has_own_id),
      kept_(std::make_shared<kept>()) {
  kept_->state = std::move(state);
  auto run = [k = kept_, f = fun_, at] {
    static const atom done("done"), throw_("throw");
    for (;;) {
      const auto e
          = esp::receive([](const term& t) { return t.arity() == 2; });
      term before;
      {
        const std::lock_guard lock(k->mutex);
        before = k->state;
      }
      const auto got
          = apply_at(at, f, term::list({before, e->element(0), e->element(1)}));
      // What is thrown counts as returned; any other failure removes it.
      const auto* no = std::get_if<refusal>(&got);
      if (no != nullptr && no->reason.element(0) != term(throw_))
        return;
      term next = no != nullptr ? no->reason.element(1) : std::get<term>(got);
      if (next == term(done))
        return;
      const std::lock_guard lock(k->mutex);
      k->state = std::move(next);
    }
  };
  const auto runner
      = home.spawn<node::spawned_process>(std::move(run), "sys:install");
  runner->set_origin(
      term::tuple({atom("sys"), atom("install"), term::integer(2)}), {});
  runner_ = runner;
  runner_->kick();
}

debug_function::~debug_function() {
  static const atom shutdown("shutdown");
  runner_->end(shutdown);
}

void debug_function::event(const term& event, const term& name) {
  static base::log_limiter limiter;
  if (runner_->queued_data() < max_waiting)
    runner_->deliver(term::tuple({event, name}), std::nullopt);
  else
    limiter.log(base::log_level::warning,
                "a fun of sys:install is too slow: it misses events of "
                    + name.to_string(100));
}

term debug_function::option() const {
  const std::lock_guard lock(kept_->mutex);
  return has_own_id_
             ? term::tuple({id_, term::tuple({fun_, kept_->state})})
             : term::tuple({fun_, kept_->state});
}

} // namespace esp::otp
