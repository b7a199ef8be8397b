#include "base/log.hpp"

#include <atomic>
#include <cstdio>
#include <utility>

namespace esp::base {

namespace {

void write_to_stderr(log_level level, std::string_view line) {
  std::string all = "esp_node ";
  all += name(level);
  all += ": ";
  all += line;
  all += '\n';
  std::fwrite(all.data(), 1, all.size(), stderr);
}

struct state {
  std::mutex mutex;
  log_sink sink = write_to_stderr;
  std::atomic<log_level> most{log_level::notice};
};

// Never destroyed: threads may log while the OS process ends.
state& the_state() {
  static auto* s = new state;
  return *s;
}

std::string without_controls(std::string_view line) {
  std::string clean{line};
  for (char& c : clean) {
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') {
      c = '?';
    }
  }
  return clean;
}

} // namespace

std::string_view name(log_level level) noexcept {
  switch (level) {
  case log_level::error:
    return "error";
  case log_level::warning:
    return "warning";
  case log_level::notice:
    return "notice";
  case log_level::info:
    return "info";
  case log_level::debug:
    return "debug";
  }
  return "error";
}

void set_log_sink(log_sink sink) {
  auto& s = the_state();
  std::lock_guard lock{s.mutex};
  s.sink = sink ? std::move(sink) : log_sink{write_to_stderr};
}

void set_log_level(log_level most) noexcept {
  the_state().most.store(most, std::memory_order_relaxed);
}

bool is_logged(log_level level) noexcept {
  return level <= the_state().most.load(std::memory_order_relaxed);
}

void log(log_level level, std::string_view line) {
  if (!is_logged(level)) {
    return;
  }
  std::string clean = without_controls(line);
  auto& s = the_state();
  std::lock_guard lock{s.mutex};
  s.sink(level, clean);
}

log_limiter::log_limiter(unsigned burst, std::chrono::milliseconds period)
    : burst_(burst), period_(period) {}

bool log_limiter::admits(log_level level) {
  std::uint64_t left_out = 0;
  {
    std::lock_guard lock{mutex_};
    const auto now = clock::now();
    if (written_ == 0 || now - begin_ >= period_) {
      begin_ = now;
      written_ = 0;
      left_out = std::exchange(left_out_, 0);
    }
    if (written_ == burst_) {
      ++left_out_;
      return false;
    }
    ++written_;
  }
  if (left_out != 0) {
    base::log(level, std::to_string(left_out) + " similar lines left out");
  }
  return true;
}

void log_limiter::log(log_level level, std::string_view line) {
  if (admits(level)) {
    base::log(level, line);
  }
}

} // namespace esp::base
