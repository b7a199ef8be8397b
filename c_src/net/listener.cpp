#include "net/listener.hpp"

#include "base/log.hpp"
#include "net/stream_state.hpp"
#include "net/timer.hpp"

#include <chrono>
#include <deque>
#include <utility>

namespace esp::net {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;

namespace {

// How often another free port is tried when the one that the first address
// gave is taken on another.
constexpr int port_attempts = 20;

// After "too many open files" and its like, which would else spin.
constexpr std::chrono::milliseconds pause_after_error{100};

} // namespace

struct listener::state : std::enable_shared_from_this<listener::state> {
  state(io& i, listen_options o, accepted f)
      : owner(i), options(std::move(o)), on_accepted(std::move(f)) {}

  struct door {
    explicit door(io& i) : acceptor(i.context()), pause(i) {}
    tcp::acceptor acceptor;
    timer pause;
  };

  io& owner;
  listen_options options;
  accepted on_accepted; // none once closed
  std::deque<door> doors;
  std::uint16_t port = 0;
  base::log_limiter log;

  result<void> open_all(std::uint16_t wanted);
  static boost::system::error_code open_one(tcp::acceptor& a,
                                            const tcp::endpoint& at);
  void accept(std::size_t index);
  void take(tcp::socket socket);
};

boost::system::error_code listener::state::open_one(tcp::acceptor& a,
                                                    const tcp::endpoint& at) {
  boost::system::error_code error;
  a.open(at.protocol(), error);
  if (!error) {
    a.set_option(tcp::acceptor::reuse_address{true}, error);
  }
  if (!error) {
    a.bind(at, error);
  }
  if (!error) {
    a.listen(128, error);
  }
  return error;
}

result<void> listener::state::open_all(std::uint16_t wanted) {
  doors.clear();
  port = wanted;
  for (const auto& text : options.addresses) {
    boost::system::error_code error;
    tcp::endpoint at{asio::ip::make_address(text, error), port};
    if (!error) {
      error = open_one(doors.emplace_back(owner).acceptor, at);
    }
    if (!error) {
      port = doors.back().acceptor.local_endpoint().port();
      continue;
    }
    if (error == asio::error::address_in_use) {
      return {errc::already,
              "port " + std::to_string(port) + " of " + text + " is in use"};
    }
    doors.pop_back();
    if (doors.empty()) {
      return {errc::io, "cannot listen on " + text + ": " + error.message()};
    }
    base::log(base::log_level::info,
              "not listening on " + text + ": " + error.message());
  }
  return {};
}

void listener::state::accept(std::size_t index) {
  doors[index].acceptor.async_accept([self = shared_from_this(),
                                      index](auto error, tcp::socket socket) {
    if (!self->on_accepted) {
      return; // closed
    }
    if (!error) {
      self->take(std::move(socket));
    } else if (error != asio::error::connection_aborted) {
      self->log.log(base::log_level::warning,
                    "accept failed: " + error.message());
      return self->doors[index].pause.after(pause_after_error, [self, index] {
        if (self->on_accepted) {
          self->accept(index);
        }
      });
    }
    if (self->on_accepted) {
      self->accept(index);
    }
  });
}

void listener::state::take(tcp::socket socket) {
  boost::system::error_code error;
  const auto from = socket.remote_endpoint(error).address().to_string();
  if (error) {
    return; // gone already
  }
  if (options.only_own_machine && !is_own_address(from)) {
    return log.log(base::log_level::warning,
                   "refused a connection from " + from);
  }
  stream_ptr s{new stream(std::make_unique<stream::state>(std::move(socket)))};
  on_accepted(std::move(s), from);
}

listener::listener(std::shared_ptr<state> s) : s_(std::move(s)) {}

listener::~listener() {
  close();
}

result<std::unique_ptr<listener>> listener::open(io& i, listen_options options,
                                                 accepted on_accepted) {
  auto s =
      std::make_shared<state>(i, std::move(options), std::move(on_accepted));
  if (s->options.addresses.empty()) {
    return {errc::badarg, "no address to listen on"};
  }
  auto opened = s->open_all(s->options.port);
  for (int n = 1; n < port_attempts && !opened && s->options.port == 0
                  && opened.error().code == errc::already;
       ++n) {
    opened = s->open_all(0);
  }
  if (!opened) {
    return opened.error();
  }
  for (std::size_t n = 0; n < s->doors.size(); ++n) {
    s->accept(n);
  }
  return std::unique_ptr<listener>{new listener(std::move(s))};
}

void listener::close() {
  s_->on_accepted = nullptr;
  for (auto& d : s_->doors) {
    boost::system::error_code ignored;
    d.acceptor.close(ignored);
    d.pause.cancel();
  }
}

std::uint16_t listener::port() const noexcept {
  return s_->port;
}

} // namespace esp::net
