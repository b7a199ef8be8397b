// A leveled log to one sink. The engine's own words: what users' tasks log
// goes to the VM's logger instead. Thread safe; a line is one call of the sink.

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

namespace esp::base {

enum class log_level : std::uint8_t { error, warning, notice, info, debug };

std::string_view name(log_level level) noexcept;

// `line` has no end of line and no control characters: what came from outside
// cannot forge a second line.
using log_sink = std::function<void(log_level level, std::string_view line)>;

// Replaces the sink; the first one writes "esp_node <level>: <line>" to
// stderr. The sink may be called from any thread, one call at a time.
void set_log_sink(log_sink sink);
// Lines beyond this level are dropped; `notice` at first.
void set_log_level(log_level most) noexcept;
bool is_logged(log_level level) noexcept;

void log(log_level level, std::string_view line);

// Lines that strangers can cause: at most `burst` of them in each `period`,
// then one that says how many were left out.
class log_limiter {
public:
  explicit log_limiter(unsigned burst = 10,
                       std::chrono::milliseconds period = std::chrono::seconds{
                           10});

  void log(log_level level, std::string_view line);
  // Whether to write one, for those who would have to build it first.
  bool admits(log_level level);

private:
  using clock = std::chrono::steady_clock;

  const unsigned burst_;
  const std::chrono::milliseconds period_;
  std::mutex mutex_;
  clock::time_point begin_{};
  unsigned written_ = 0;
  std::uint64_t left_out_ = 0;
};

} // namespace esp::base
