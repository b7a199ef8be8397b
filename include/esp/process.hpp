// What a process may do: the Erlang functions of the same names, from inside
// a task or a spawned function. All of them must be called on a process's
// fiber; elsewhere they throw std::logic_error. Those that wait block the
// fiber, never its thread.

#pragma once

#include "esp/error.hpp"
#include "esp/term.hpp"

#include <chrono>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string_view>
#include <utility>
#include <variant>

namespace esp {

using milliseconds = std::chrono::milliseconds;
inline constexpr milliseconds infinity = milliseconds::max();

// Thrown out of an esp:: call when the process has been told to end. Not a
// std::exception, so that no handler for errors stops it; a catch (...) must
// rethrow. Every later esp:: call throws it again.
class ESP_API exit_signal {
public:
  explicit exit_signal(term reason) : reason_(std::move(reason)) {}
  const term& reason() const noexcept { return reason_; }

private:
  term reason_;
};

// Ends the calling process with `reason`, as erlang:exit/1 does.
[[noreturn]] ESP_API void exit(term reason);

// pid | registered name here | {name, node}
using destination = std::variant<pid, atom, std::pair<atom, atom>>;

ESP_API pid self();
ESP_API atom this_node(); // its name
ESP_API ref make_ref();

// As `!`: never fails, order kept between two processes.
ESP_API void send(const destination& to, const term& message);

// The next message that `matches` accepts; the rest stays where it is and is
// the task's data later. None after `timeout`.
ESP_API std::optional<term>
receive(const std::function<bool(const term&)>& matches,
        milliseconds timeout = infinity);
ESP_API void sleep(milliseconds duration);

// gen_server:call/3. Errors: noproc, noconnection, timeout; another exit
// reason of the server is `refused`, with its text.
ESP_API result<term> call(const destination& to, const term& request,
                          milliseconds timeout = milliseconds(5'000));
// Answers a {'$gen_call', From, Request} that came as data.
ESP_API void reply(const term& from, const term& answer);
// erpc:call/5 on an Erlang node. Errors: noconnection, timeout; an exception
// there is `refused`, with class and reason as its text.
ESP_API result<term> rpc(atom node, std::string_view module,
                         std::string_view function,
                         std::initializer_list<term> args,
                         milliseconds timeout = milliseconds(5'000));

// A process of its own that runs `body` and ends `normal` after it.
ESP_API pid spawn(std::function<void()> body);
ESP_API pid spawn_link(std::function<void()> body);
ESP_API void link(const pid& to);
ESP_API void unlink(const pid& from);
ESP_API ref monitor(const destination& to);
ESP_API void demonitor(const ref& monitor); // with flush
ESP_API void exit(const pid& to, const term& reason); // erlang:exit/2
ESP_API bool trap_exit(bool on); // the former value
ESP_API bool register_name(atom name); // of self(); false: taken
ESP_API std::optional<pid> whereis(atom name);

// seq_trace:print/1: an event with `info` if the process works under a token that
// has the flag `print`; false if it works under none.
ESP_API bool seq_trace_print(const term& info);

// Those of logger(3), the most important last.
enum class level {
  debug,
  info,
  notice,
  warning,
  error,
  critical,
  alert,
  emergency
};

// More for an event's metadata; pid, gl, time, mfa, file and line are the event's
// own. It has a `domain` only if one is given here: OTP's default handler drops
// those that it does not know.
using log_metadata = std::initializer_list<std::pair<std::string_view, term>>;

// Where an event is logged: the last argument, which a call leaves out.
struct log_place {
  const char* file;
  unsigned line;
  const char* function;

  static constexpr log_place here(const char* file = __builtin_FILE(),
                                  unsigned line = __builtin_LINE(),
                                  const char* function
                                  = __builtin_FUNCTION()) noexcept {
    return {file, line, function};
  }
};

// One event for the `logger` of a VM: that of the process's group leader, else
// that which owns the C-node. A text in UTF-8, or a report: a map, or a list of
// {Key, Value}. Nothing is sent that the primary level there, or the plugin's
// (logger:set_module_level/2), would drop; changes of those are known here
// after a second at most.
ESP_API void log(esp::level level, std::string_view text,
                 log_metadata more = {}, log_place where = log_place::here());
ESP_API void log(esp::level level, const term& report, log_metadata more = {},
                 log_place where = log_place::here());
// False if it would go nowhere: for events that are costly to put together.
ESP_API bool is_logged(esp::level level);

} // namespace esp
