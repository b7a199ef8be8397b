// What dbg:trace_port(ip, Port) is on a node of ours: whoever connects reads
// the events, each as 0, Size:32, Term; 1, N:32 says how many were dropped. One
// at a time; the others wait, and so do the events, up to the bound. See
// trace_ip_drv of runtime_tools.

#pragma once

#include "esp/error.hpp"

#include "trace/tracer.hpp"

#include <cstdint>
#include <memory>
#include <string>

namespace esp::trace {

class ip_port {
public:
  // `port` 0 is any. `name` is the Erlang port that it is known by.
  static result<std::unique_ptr<ip_port>>
  open(const std::string& address, std::uint16_t port, term name,
       tracer::limits most);
  ~ip_port();
  ip_port(const ip_port&) = delete;
  ip_port& operator=(const ip_port&) = delete;

  std::uint16_t port() const noexcept;
  const tracer_ptr& events() const noexcept;

private:
  struct state;
  explicit ip_port(std::unique_ptr<state> s);
  std::unique_ptr<state> s_;
};

} // namespace esp::trace
