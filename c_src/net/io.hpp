// The thread that owns the sockets: one Boost.Asio io_context and one thread
// that runs it. Nothing here or in the other headers of this room includes
// Asio, which would dominate everybody's build time.

#pragma once

#include <functional>
#include <memory>

namespace boost::asio {
class io_context;
}

namespace esp::net {

class io {
public:
  io();
  // The last holder destroys it, on any thread but its own.
  ~io();
  io(const io&) = delete;
  io& operator=(const io&) = delete;

  void start();
  // Lets what is posted already run, then ends and joins the thread. What is
  // posted later is dropped. Streams, timers and listeners are to be closed
  // before. Not from the I/O thread. Twice is once.
  void stop();

  // Runs `f` on the I/O thread, in the order of the calls. Any thread. False,
  // and `f` is dropped, after stop().
  bool post(std::function<void()> f);
  // The same, and waits until it has run; for start and stop alone.
  bool run(const std::function<void()>& f);
  bool is_io_thread() const noexcept;

  // For the sources of this room.
  boost::asio::io_context& context() noexcept;

private:
  struct state;
  std::unique_ptr<state> s_;
};

using io_ptr = std::shared_ptr<io>;

} // namespace esp::net
