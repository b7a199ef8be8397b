// One deadline on the I/O thread.

#pragma once

#include "net/io.hpp"

#include <chrono>
#include <functional>
#include <memory>

namespace esp::net {

// For the I/O thread only. Once cancelled, set anew or destroyed, what it was
// set to before never runs.
class timer {
public:
  explicit timer(io& i);
  ~timer();
  timer(const timer&) = delete;
  timer& operator=(const timer&) = delete;

  void after(std::chrono::milliseconds delay, std::function<void()> f);
  void cancel();

private:
  struct state;
  std::shared_ptr<state> s_;
};

} // namespace esp::net
