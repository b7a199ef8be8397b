#include "otp/debug.hpp"

#include <vector>

namespace esp::otp {

namespace {

const atom in_("in"), out_("out"), ok("ok");

term date_time(std::time_t t) {
  std::tm local{};
  ::localtime_r(&t, &local);
  return term::tuple(
      {term::tuple({term::integer(local.tm_year + 1900),
                    term::integer(local.tm_mon + 1),
                    term::integer(local.tm_mday)}),
       term::tuple({term::integer(local.tm_hour), term::integer(local.tm_min),
                    term::integer(local.tm_sec)})});
}

term number(std::uint64_t n) {
  return term::integer(static_cast<std::int64_t>(n));
}

} // namespace

bool debug::in(const term& message) {
  if (statistics_)
    ++statistics_->in;
  if (log_length_ > 0)
    keep(term::tuple({in_, message}));
  return trace_;
}

bool debug::out(const term& message, const term& to) {
  if (statistics_)
    ++statistics_->out;
  if (log_length_ > 0)
    keep(term::tuple({out_, message, to}));
  return trace_;
}

void debug::start_statistics(std::uint64_t reductions) {
  statistics_ = counts{std::time(nullptr), reductions, 0, 0};
}

term debug::statistics(std::uint64_t reductions) const {
  static const atom no_statistics("no_statistics"), start_time("start_time"),
      current_time("current_time"), reds("reductions"),
      messages_in("messages_in"), messages_out("messages_out");
  if (!statistics_)
    return term::tuple({ok, no_statistics});
  return term::tuple(
      {ok,
       term::list(
           {term::tuple({start_time, date_time(statistics_->since)}),
            term::tuple({current_time, date_time(std::time(nullptr))}),
            term::tuple({reds, number(reductions - statistics_->reductions)}),
            term::tuple({messages_in, number(statistics_->in)}),
            term::tuple({messages_out, number(statistics_->out)})})});
}

term debug::events() const {
  return term::list(std::vector<term>(log_.begin(), log_.end()));
}

term debug::options() const {
  std::vector<term> on;
  if (trace_)
    on.push_back(term::tuple({atom("trace"), atom("true")}));
  if (log_length_ > 0)
    on.push_back(term::tuple(
        {atom("log"),
         term::tuple({number(log_length_), events()})}));
  if (statistics_)
    on.push_back(term::tuple({atom("statistics"),
                              date_time(statistics_->since)}));
  return term::list(on);
}

std::string debug::print(const term& name, const term& event) {
  const std::string who = "*DBG* " + name.to_string();
  if (event.element(0).is_atom("in"))
    return who + " got " + event.element(1).to_string() + "\n";
  return who + " sent " + event.element(1).to_string() + " to "
         + event.element(2).to_string() + "\n";
}

void debug::keep(term event) {
  log_.push_back(std::move(event));
  trim();
}

void debug::trim() {
  while (log_.size() > log_length_)
    log_.pop_front();
}

} // namespace esp::otp
