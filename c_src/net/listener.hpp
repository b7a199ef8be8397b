// One port on one or several addresses.

#pragma once

#include "esp/error.hpp"

#include "net/io.hpp"
#include "net/stream.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace esp::net {

struct listen_options {
  std::vector<std::string> addresses; // the first one must work
  std::uint16_t port = 0;             // 0: any that is free on all of them
  // Closes at once what comes from an address that is not this machine's.
  bool only_own_machine = true;
};

// For the I/O thread only, port() excepted.
class listener {
public:
  using accepted =
      std::function<void(stream_ptr stream, const std::string& from)>;

  // Addresses beyond the first that are not this machine's are skipped.
  static result<std::unique_ptr<listener>> open(io& i, listen_options options,
                                                accepted on_accepted);
  ~listener();
  listener(const listener&) = delete;
  listener& operator=(const listener&) = delete;

  void close();
  std::uint16_t port() const noexcept;

private:
  struct state;
  explicit listener(std::shared_ptr<state> s);
  std::shared_ptr<state> s_;
};

} // namespace esp::net
