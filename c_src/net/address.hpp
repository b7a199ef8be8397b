// Host names and addresses as text; which of them are this machine's.

#pragma once

#include "esp/error.hpp"

#include "net/io.hpp"

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace esp::net {

struct endpoint {
  std::string address; // "127.0.0.1"; no name
  std::uint16_t port = 0;
};

bool is_address(const std::string& text) noexcept;
// Loopback, or the address of an interface of this machine.
bool is_own_address(const std::string& address);

// The IPv4 addresses of a host, as Erlang's inet_tcp distribution uses them;
// an address is itself. Blocks: not for the I/O thread.
result<std::vector<std::string>> resolve_now(const std::string& host);
// The same without blocking; `done` runs on the I/O thread, where this is
// called, later or at once.
using resolved = std::function<void(result<std::vector<std::string>>)>;
void resolve(io& i, const std::string& host, resolved done);

} // namespace esp::net
