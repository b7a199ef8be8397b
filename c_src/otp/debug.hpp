// What `sys` keeps for a process that it has been asked to: statistics, a log
// of events, a file of them, funs to call, a trace to the group leader. See
// sys(3).

#pragma once

#include "esp/term.hpp"

#include "otp/debug_function.hpp"

#include <cstdint>
#include <cstdio>
#include <ctime>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace esp::otp {

class debug {
public:
  // Events as OTP's: {in, Msg} and {out, Msg, To}; `name` is whose they are.
  // True if the event is to be printed.
  bool in(const term& message, const term& name);
  bool out(const term& message, const term& to, const term& name);

  void start_statistics(std::uint64_t reductions);
  void stop_statistics() { statistics_.reset(); }
  term statistics(std::uint64_t reductions) const; // the reply to `get`

  void log(std::size_t length) { log_length_ = length, trim(); }
  term events() const; // oldest first
  void trace(bool on) { trace_ = on; }

  // Of this machine's files, and as its user. False: it cannot be opened, and
  // none is.
  bool log_to_file(const std::string& path);
  void close_file() { file_.reset(); }

  // As sys has it, no second one of the same name.
  bool has_function(const term& id) const;
  void install(std::unique_ptr<debug_function> f) {
    functions_.push_back(std::move(f));
  }
  // A fun, by its id or itself, or an option by its name.
  void remove(const term& id);

  bool is_idle();
  term options(); // as in the status: what is switched on

  // *DBG* lines, as sys prints the events of a gen_server.
  static std::string print(const term& name, const term& event);

private:
  bool event(const term& e, const term& name);
  void drop_done();
  void trim();

  struct counts {
    std::time_t since;
    std::uint64_t reductions, in, out;
  };
  struct closing {
    void operator()(std::FILE* f) const { std::fclose(f); }
  };
  std::optional<counts> statistics_;
  std::size_t log_length_ = 0;
  std::deque<term> log_;
  bool trace_ = false;
  std::unique_ptr<std::FILE, closing> file_;
  std::string file_name_;
  std::vector<std::unique_ptr<debug_function>> functions_;
};

} // namespace esp::otp
