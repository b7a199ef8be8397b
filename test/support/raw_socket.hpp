// A plain blocking socket that says whatever the test wants and sees what
// comes back, and a door where such sockets are accepted.

#pragma once

#include "support/os_process.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

namespace test {

class raw_socket {
public:
  using bytes = std::vector<std::byte>;

  explicit raw_socket(std::uint16_t port)
      : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(port);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd_, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0) {
      throw std::runtime_error("cannot connect");
    }
    const int one = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  }
  raw_socket(raw_socket&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
  raw_socket& operator=(raw_socket&&) = delete;
  ~raw_socket() { close(); }

  void close() {
    if (fd_ >= 0) {
      ::close(std::exchange(fd_, -1));
    }
  }
  // All of it, or false if the other side has closed.
  bool say(std::span<const std::byte> all) const {
    while (!all.empty()) {
      const auto n = ::send(fd_, all.data(), all.size(), MSG_NOSIGNAL);
      if (n < 0) {
        return false;
      }
      all = all.subspan(static_cast<std::size_t>(n));
    }
    return true;
  }
  // What comes next; empty at the end of the connection, which a reset is
  // too; none if nothing comes in time.
  std::optional<bytes> hear(std::chrono::milliseconds limit = patience) const {
    pollfd p{fd_, POLLIN, 0};
    if (::poll(&p, 1, static_cast<int>(limit.count())) <= 0) {
      return std::nullopt;
    }
    bytes some(65'536);
    const auto n = ::recv(fd_, some.data(), some.size(), 0);
    some.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    return some;
  }
  // Whether the other side closes, whatever it says before that.
  bool is_closed_on(std::chrono::milliseconds limit = patience) const {
    for (;;) {
      auto some = hear(limit);
      if (!some) {
        return false;
      }
      if (some->empty()) {
        return true;
      }
    }
  }

private:
  friend class door;
  struct accepted {
    int fd;
  };
  explicit raw_socket(accepted a) : fd_(a.fd) {}

  int fd_;
};

// Listens on a loopback port of its own.
class door {
public:
  door() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    if (::bind(fd_, reinterpret_cast<sockaddr*>(&at), size) != 0
        || ::listen(fd_, 16) != 0) {
      throw std::runtime_error("cannot listen");
    }
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&at), &size);
    port_ = ntohs(at.sin_port);
  }
  door(const door&) = delete;
  door& operator=(const door&) = delete;
  ~door() { ::close(fd_); }

  std::uint16_t port() const { return port_; }
  raw_socket accept() const {
    pollfd p{fd_, POLLIN, 0};
    const std::chrono::milliseconds limit = patience;
    if (::poll(&p, 1, static_cast<int>(limit.count())) != 1) {
      throw std::runtime_error("nobody dials");
    }
    return raw_socket{
        raw_socket::accepted{::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC)}};
  }

private:
  int fd_;
  std::uint16_t port_ = 0;
};

} // namespace test
