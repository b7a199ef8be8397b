#include "otp/debug.hpp"

#include <algorithm>
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

bool debug::in(const term& message, const term& name) {
  if (statistics_)
    ++statistics_->in;
  return event(term::tuple({in_, message}), name);
}

bool debug::out(const term& message, const term& to, const term& name) {
  if (statistics_)
    ++statistics_->out;
  return event(term::tuple({out_, message, to}), name);
}

bool debug::event(const term& e, const term& name) {
  if (log_length_ > 0) {
    log_.push_back(e);
    trim();
  }
  if (file_) {
    std::fputs(print(name, e).c_str(), file_.get());
    std::fflush(file_.get());
  }
  drop_done();
  for (const auto& f : functions_)
    f->event(e, name);
  return trace_;
}

bool debug::log_to_file(const std::string& path) {
  close_file();
  // A file's name ends where the kernel's idea of it does.
  if (path.find('\0') == std::string::npos)
    file_.reset(std::fopen(path.c_str(), "we"));
  file_name_ = path;
  return file_ != nullptr;
}

bool debug::has_function(const term& id) const {
  return std::ranges::any_of(
      functions_, [&id](const auto& f) { return f->id() == id; });
}

void debug::remove(const term& id) {
  if (id.is_atom("trace"))
    trace(false);
  else if (id.is_atom("log"))
    log(0);
  else if (id.is_atom("statistics"))
    stop_statistics();
  else if (id.is_atom("log_to_file"))
    close_file();
  std::erase_if(functions_, [&id](const auto& f) { return f->id() == id; });
}

void debug::drop_done() {
  std::erase_if(functions_, [](const auto& f) { return f->is_done(); });
}

bool debug::is_idle() {
  drop_done();
  return !statistics_ && log_length_ == 0 && !trace_ && !file_
         && functions_.empty();
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

term debug::options() {
  std::vector<term> on;
  drop_done();
  for (const auto& f : functions_)
    on.push_back(f->option());
  if (file_)
    on.push_back(
        term::tuple({atom("log_to_file"), term::binary(file_name_)}));
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

void debug::trim() {
  while (log_.size() > log_length_)
    log_.pop_front();
}

} // namespace esp::otp
