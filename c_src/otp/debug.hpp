// What `sys` keeps for a process that it has been asked to: statistics, a log
// of events, a trace to the group leader. See sys(3).

#pragma once

#include "esp/term.hpp"

#include <cstdint>
#include <ctime>
#include <deque>
#include <optional>
#include <string>

namespace esp::otp {

class debug {
public:
  // Events as OTP's: {in, Msg} and {out, Msg, To}. True if the event is to be
  // printed.
  bool in(const term& message);
  bool out(const term& message, const term& to);

  void start_statistics(std::uint64_t reductions);
  void stop_statistics() { statistics_.reset(); }
  term statistics(std::uint64_t reductions) const; // the reply to `get`

  void log(std::size_t length) { log_length_ = length, trim(); }
  term events() const; // oldest first
  void trace(bool on) { trace_ = on; }
  void clear() { *this = debug(); }

  bool is_idle() const {
    return !statistics_ && log_length_ == 0 && !trace_;
  }
  term options() const; // as in the status: what is switched on

  // *DBG* lines, as sys prints the events of a gen_server.
  static std::string print(const term& name, const term& event);

private:
  void keep(term event);
  void trim();

  struct counts {
    std::time_t since;
    std::uint64_t reductions, in, out;
  };
  std::optional<counts> statistics_;
  std::size_t log_length_ = 0;
  std::deque<term> log_;
  bool trace_ = false;
};

} // namespace esp::otp
