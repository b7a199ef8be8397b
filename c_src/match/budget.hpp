// What one run of a match specification may look at: it runs where messages are
// taken in, and holds up all that come after.

#pragma once

#include <cstddef>

namespace esp::match {

class budget {
public:
  static constexpr std::size_t most_bytes = std::size_t{64} << 20;

  // False: there is not that much left, and nothing from now on.
  bool take(std::size_t bytes) noexcept {
    left_ = bytes > left_ ? 0 : left_ - bytes;
    is_spent_ = is_spent_ || left_ == 0;
    return !is_spent_;
  }

private:
  std::size_t left_ = most_bytes;
  bool is_spent_ = false;
};

} // namespace esp::match
