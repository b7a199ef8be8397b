// One TCP connection, read by the I/O thread. Writing is the user's: with
// write_now(), or through native_handle() from any thread that it allows.

#pragma once

#include "esp/error.hpp"

#include "net/address.hpp"
#include "net/io.hpp"

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace esp::net {

// For the I/O thread only, native_handle() excepted.
class stream : public std::enable_shared_from_this<stream> {
public:
  // Who reads. A stream keeps its user alive until it is closed, released or
  // has another one; no call comes after that.
  class user {
  public:
    virtual ~user() = default;
    // Where to read to: not empty, and valid until on_read() or the end.
    virtual std::span<std::byte> read_room() = 0;
    virtual void on_read(std::size_t count) = 0;
    // The other side has closed, or the connection broke. Once.
    virtual void on_end(const std::string& why) = 0;
    virtual void on_writable() {}
  };

  static std::shared_ptr<stream> make(io& i);
  ~stream();
  stream(const stream&) = delete;
  stream& operator=(const stream&) = delete;

  // Tries one after the other. `done` is not called after close().
  void connect(std::vector<endpoint> to,
               std::function<void(result<void>)> done);

  // Makes `u` the user; the first one starts the reading.
  void read_for(std::shared_ptr<user> u);
  // Calls on_writable() once when the socket takes bytes again.
  void wait_writable();
  // For the few bytes of a handshake, which a socket always takes: false if
  // it did not take them all, and then the stream is of no use any more.
  bool write_now(std::span<const std::byte> bytes);

  void close();
  // Gives the descriptor to the caller, who closes it.
  int release();
  int native_handle() const noexcept { return handle_; }

private:
  friend class listener;
  struct state;
  explicit stream(std::unique_ptr<state> s);

  void try_next(std::size_t index);
  void adopt();
  void read();

  std::unique_ptr<state> s_;
  int handle_ = -1;
};

using stream_ptr = std::shared_ptr<stream>;

} // namespace esp::net
