#include "trace/ip_port.hpp"

#include "base/bytes.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

namespace esp::trace {

namespace {

class descriptor {
public:
  explicit descriptor(int fd = -1) noexcept : fd_(fd) {}
  descriptor(descriptor&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
  descriptor& operator=(descriptor&& o) noexcept {
    std::swap(fd_, o.fd_);
    return *this;
  }
  ~descriptor() {
    if (fd_ >= 0)
      ::close(fd_);
  }
  int get() const noexcept { return fd_; }
  bool is_open() const noexcept { return fd_ >= 0; }

private:
  int fd_;
};

result<descriptor> listen_at(const std::string& address, std::uint16_t port) {
  descriptor s(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(port);
  const int on = 1;
  if (!s.is_open() || ::inet_pton(AF_INET, address.c_str(), &at.sin_addr) != 1
      || ::setsockopt(s.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0
      || ::bind(s.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0
      || ::listen(s.get(), 1) != 0)
    return {errc::refused, std::strerror(errno)};
  return s;
}

void frame(const term& event, std::vector<std::byte>& out) {
  const auto put_32 = [&out](std::uint8_t op, std::size_t n) {
    out.push_back(std::byte{op});
    for (int shift = 24; shift >= 0; shift -= 8)
      out.push_back(static_cast<std::byte>(n >> shift));
  };
  if (event.is_tagged("drop", 2))
    return put_32(1, static_cast<std::size_t>(
                         event.element(1).as_integer().value_or(0)));
  const auto bytes = event.encode();
  put_32(0, bytes.size());
  out.insert(out.end(), bytes.begin(), bytes.end());
}

} // namespace

struct ip_port::state {
  descriptor listener, wake, client;
  std::uint16_t number = 0;
  tracer_ptr events;
  std::atomic<bool> is_over{false};
  std::vector<std::byte> out;
  std::size_t at = 0, framed = 0; // in `out`: what is written, and how many
  std::thread writer;

  ~state() {
    is_over = true;
    events->close();
    ring();
    if (writer.joinable())
      writer.join();
  }

  void ring() const {
    const std::uint64_t one = 1;
    (void)!::write(wake.get(), &one, sizeof one);
  }

  void run() {
    constexpr int a_while = 100; // ms
    bool is_refused = false; // no descriptor was left: poll would not wait
    while (!is_over) {
      if (client.is_open() && at == out.size())
        fill();
      pollfd fds[] = {{wake.get(), POLLIN, 0}, {-1, POLLIN, 0}};
      const int wait = is_refused ? a_while : -1;
      if (!std::exchange(is_refused, false))
        fds[1].fd = client.is_open() ? client.get() : listener.get();
      if (at < out.size())
        fds[1].events |= POLLOUT;
      if (::poll(fds, 2, wait) < 0 && errno != EINTR)
        return;
      std::uint64_t count;
      if (fds[0].revents != 0)
        (void)!::read(wake.get(), &count, sizeof count);
      if (fds[1].revents == 0)
        continue;
      if (!client.is_open()) {
        client = descriptor(
            ::accept4(listener.get(), nullptr, nullptr,
                      SOCK_NONBLOCK | SOCK_CLOEXEC));
        is_refused = !client.is_open();
      } else if (!serve(fds[1].revents)) {
        hang_up();
      }
    }
  }

  void fill() {
    constexpr std::size_t at_once = 100;
    out.clear();
    at = 0;
    const auto taken = events->take(at_once);
    for (const term& e : taken)
      frame(e, out);
    framed = taken.size();
  }

  bool serve(short ready) {
    if ((ready & (POLLERR | POLLHUP)) != 0)
      return false;
    char ignored[256];
    if ((ready & POLLIN) != 0) {
      const auto n = ::recv(client.get(), ignored, sizeof ignored, 0);
      if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        return false;
    }
    if ((ready & POLLOUT) != 0) {
      const auto n = ::send(client.get(), out.data() + at, out.size() - at,
                            MSG_NOSIGNAL);
      if (n < 0)
        return errno == EAGAIN || errno == EINTR;
      at += static_cast<std::size_t>(n);
      if (at == out.size())
        events->passed_on(std::exchange(framed, 0));
    }
    return true;
  }

  void hang_up() {
    client = descriptor();
    out.clear();
    at = 0;
    events->passed_on(std::exchange(framed, 0));
  }
};

ip_port::ip_port(std::unique_ptr<state> s) : s_(std::move(s)) {}
ip_port::~ip_port() = default;
std::uint16_t ip_port::port() const noexcept { return s_->number; }
const tracer_ptr& ip_port::events() const noexcept { return s_->events; }

result<std::unique_ptr<ip_port>>
ip_port::open(const std::string& address, std::uint16_t port, term name,
              tracer::limits most) {
  auto listener = listen_at(address, port);
  if (!listener)
    return listener.error();
  descriptor wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.is_open())
    return {errc::refused, std::strerror(errno)};
  auto s = std::make_unique<state>();
  s->listener = *std::move(listener);
  s->wake = std::move(wake);
  sockaddr_in at{};
  socklen_t size = sizeof at;
  ::getsockname(s->listener.get(), reinterpret_cast<sockaddr*>(&at), &size);
  s->number = ntohs(at.sin_port);
  auto* const raw = s.get();
  s->events = new tracer(std::move(name), most, [raw] { raw->ring(); });
  s->writer = std::thread([raw] { raw->run(); });
  return std::unique_ptr<ip_port>(new ip_port(std::move(s)));
}

} // namespace esp::trace
