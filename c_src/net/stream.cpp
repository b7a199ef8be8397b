#include "net/stream.hpp"

#include "net/stream_state.hpp"

#include <boost/asio/buffer.hpp>
#include <sys/socket.h>

#include <utility>

namespace esp::net {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;

stream::stream(std::unique_ptr<state> s) : s_(std::move(s)) {
  if (s_->socket.is_open()) {
    adopt();
  }
}

stream::~stream() = default;

stream_ptr stream::make(io& i) {
  return stream_ptr{new stream(std::make_unique<state>(i.context()))};
}

// Small signals must not wait for acknowledgements of earlier ones.
void stream::adopt() {
  boost::system::error_code ignored;
  s_->socket.set_option(tcp::no_delay{true}, ignored);
  s_->socket.non_blocking(true, ignored);
  handle_ = s_->socket.native_handle();
}

void stream::connect(std::vector<endpoint> to,
                     std::function<void(result<void>)> done) {
  s_->targets = std::move(to);
  s_->on_connected = std::move(done);
  try_next(0);
}

void stream::try_next(std::size_t index) {
  boost::system::error_code bad;
  const auto& to = s_->targets.at(index);
  tcp::endpoint at{asio::ip::make_address(to.address, bad), to.port};
  s_->socket.close(bad);
  s_->socket.async_connect(at, [self = shared_from_this(), index](auto error) {
    auto& s = *self->s_;
    if (!s.on_connected) {
      return; // closed meanwhile
    }
    if (error && index + 1 < s.targets.size()) {
      return self->try_next(index + 1);
    }
    auto done = std::exchange(s.on_connected, nullptr);
    if (error) {
      const auto& last = s.targets[index];
      return done(esp::error{errc::io, last.address + ":"
                                           + std::to_string(last.port) + ": "
                                           + error.message()});
    }
    self->adopt();
    done({});
  });
}

void stream::read_for(std::shared_ptr<user> u) {
  s_->reader = std::move(u);
  if (!std::exchange(s_->is_reading, true)) {
    read();
  }
}

void stream::read() {
  auto room = s_->reader->read_room();
  s_->socket.async_read_some(
      asio::buffer(room.data(), room.size()),
      [self = shared_from_this()](auto error, std::size_t count) {
        auto reader = self->s_->reader;
        if (!reader) {
          return; // closed or released meanwhile
        }
        if (error) {
          self->s_->reader = nullptr;
          return reader->on_end(error == asio::error::eof
                                    ? "closed by the other side"
                                    : error.message());
        }
        reader->on_read(count);
        if (self->s_->reader) {
          self->read();
        }
      });
}

void stream::wait_writable() {
  s_->socket.async_wait(tcp::socket::wait_write,
                        [self = shared_from_this()](auto) {
                          if (auto reader = self->s_->reader) {
                            reader->on_writable();
                          }
                        });
}

bool stream::write_now(std::span<const std::byte> bytes) {
  return bytes.empty()
         || ::send(handle_, bytes.data(), bytes.size(),
                   MSG_DONTWAIT | MSG_NOSIGNAL)
                == static_cast<ssize_t>(bytes.size());
}

void stream::close() {
  s_->reader = nullptr;
  s_->on_connected = nullptr;
  handle_ = -1;
  boost::system::error_code ignored;
  s_->socket.close(ignored);
}

int stream::release() {
  s_->reader = nullptr;
  s_->on_connected = nullptr;
  boost::system::error_code error;
  handle_ = -1;
  int fd = s_->socket.release(error);
  return error ? -1 : fd;
}

} // namespace esp::net
