// The other end of a connection, as a script: a plain blocking socket that
// says whatever the test wants, and sees what comes back.

#pragma once

#include "dist/frame.hpp"
#include "dist/handshake.hpp"
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
#include <string>
#include <utility>
#include <vector>

namespace test {

class stranger {
public:
  using bytes = std::vector<std::byte>;

  explicit stranger(std::uint16_t port)
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
  // One that was accepted.
  static stranger adopt(int fd) { return stranger{fd, 0}; }
  stranger(stranger&& o) noexcept
      : fd_(std::exchange(o.fd_, -1)), in_(std::move(o.in_)) {}
  stranger& operator=(stranger&&) = delete;
  ~stranger() { close(); }

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

  // Goes through the handshake as the dialling node; true if it ends well.
  bool shake_hands(const std::string& name, const std::string& us,
                   const std::string& cookie,
                   std::uint64_t flags = esp::dist::our_flags) {
    esp::dist::handshake_options o;
    o.name = name;
    o.flags = flags;
    o.creation = 77;
    o.challenge = 4711;
    o.cookie = [cookie](std::string_view) { return cookie; };
    auto h = esp::dist::handshake::initiate(std::move(o), us);
    return finish(h);
  }
  bool finish(esp::dist::handshake& h) {
    using state = esp::dist::handshake::state;
    for (;;) {
      if (h.current() == state::alive) {
        h.replace(true);
      }
      if (h.current() == state::asking) {
        h.answer(esp::dist::status::ok);
      }
      say(h.take_output());
      if (h.current() == state::connected) {
        in_ = h.take_leftover();
        return true;
      }
      auto some = hear();
      if (h.current() == state::failed || !some || some->empty()) {
        return false;
      }
      h.feed(*some);
    }
  }

  // What the handshake or hear_bytes() read too much.
  bytes& unread() { return in_; }
  // At least so many bytes, or less at the end.
  bytes hear_bytes(std::size_t count) {
    bytes all = std::exchange(in_, {});
    while (all.size() < count) {
      auto some = hear();
      if (!some || some->empty()) {
        break;
      }
      all.insert(all.end(), some->begin(), some->end());
    }
    return all;
  }

private:
  stranger(int fd, int) : fd_(fd) {}

  int fd_;
  bytes in_;
};

} // namespace test
