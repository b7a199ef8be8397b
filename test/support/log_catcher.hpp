// Catches the log for as long as it lives, and keeps it off the screen.

#pragma once

#include "base/log.hpp"
#include "support/os_process.hpp"

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <string>
#include <vector>

namespace test {

class log_catcher {
public:
  log_catcher() {
    esp::base::set_log_sink([this](auto, std::string_view line) {
      std::lock_guard lock{mutex_};
      lines_.emplace_back(line);
      changed_.notify_all();
    });
  }
  ~log_catcher() { esp::base::set_log_sink(nullptr); }
  log_catcher(const log_catcher&) = delete;
  log_catcher& operator=(const log_catcher&) = delete;

  // Whether so many lines with this in them come in time.
  bool wait_for(const std::string& text, std::size_t count = 1) {
    std::unique_lock lock{mutex_};
    return changed_.wait_for(lock, patience, [&] {
      return static_cast<std::size_t>(
                 std::count_if(lines_.begin(), lines_.end(),
                               [&](const auto& l) {
                                 return l.find(text) != std::string::npos;
                               }))
             >= count;
    });
  }
  std::size_t count() {
    std::lock_guard lock{mutex_};
    return lines_.size();
  }

private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> lines_;
};

} // namespace test
