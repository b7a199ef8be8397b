// What waits to be written to one connection, and the writing of it: any
// thread may append and flush, one at a time writes, and none ever waits for
// the socket.

#pragma once

#include "dist/control.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <vector>

namespace esp::node {

// Of the part of a signal that can be large.
std::size_t payload_size(const dist::control& c);

class peer_output {
public:
  struct limits {
    std::size_t high_water, low_water;
    std::size_t most; // bytes; beyond it the peer is given up
  };
  enum class appended {
    quietly,  // flush when there is time
    enough,   // flush now
    too_much, // more than `most` waits: nothing was appended
    nowhere,  // not open, or nothing is to be sent to this peer
  };
  enum class flushed {
    done,    // nothing waits, or another thread is writing it
    blocked, // the I/O thread is to wait for the socket, then resume()
    broken,  // the connection is lost
  };

  peer_output(std::uint64_t flags, limits l);
  ~peer_output();
  peer_output(const peer_output&) = delete;
  peer_output& operator=(const peer_output&) = delete;

  // Writes to `fd` from now on; closes it only if close() gives it away.
  void open(int fd);
  // Gives up what waits, and takes over the descriptor: closed now, or by the
  // thread that is writing to it.
  void close();

  appended append(const dist::control& c);
  // A tick, if nothing else waits or is being written.
  void append_tick();
  // Non-blocking. After `blocked`, others' flushes are `done` until resume().
  flushed flush();
  flushed resume();

  // Bytes appended and not yet given to the kernel.
  std::size_t waiting() const noexcept {
    return waiting_.load(std::memory_order_relaxed);
  }
  bool is_congested() const noexcept { return waiting() > limits_.high_water; }
  // False, and `resume` is not kept, if less than the low-water mark waits or
  // the connection is closed.
  bool keep_resume(std::function<void()>& resume);
  // Whether somebody kept a `resume` that should run now.
  bool has_drained() const noexcept {
    return has_resumes_.load(std::memory_order_seq_cst)
           && waiting_.load(std::memory_order_seq_cst) < limits_.low_water;
  }
  std::vector<std::function<void()>> take_resumes();

  std::uint64_t bytes_out() const noexcept { return bytes_out_.load(); }
  std::uint64_t signals_out() const noexcept { return signals_out_.load(); }

private:
  using chunk = std::vector<std::byte>;

  void encoded(std::size_t size) noexcept;
  flushed write_rounds();
  flushed write_some();
  chunk spare();
  void recycle(chunk&& c);
  void finish();

  const std::uint64_t flags_;
  const limits limits_;
  std::atomic<std::size_t> waiting_{0};
  std::atomic<std::uint64_t> bytes_out_{0}, signals_out_{0};
  std::atomic<std::uint64_t> next_sequence_{1};
  std::atomic<bool> has_resumes_{false};

  std::mutex mutex_; // for a few instructions, or the encoding of one signal
  bool is_open_ = false;
  bool is_writing_ = false; // a thread does, or the socket is waited for
  bool is_parked_ = false;  // ... and it is the socket that is waited for
  int fd_ = -1;
  chunk filling_;          // the newest
  std::deque<chunk> full_; // older ones, in order
  std::vector<chunk> spares_;
  std::vector<std::function<void()>> resumes_;

  // Of the writer alone.
  std::deque<chunk> writing_;
  std::size_t written_ = 0; // of the first of them
};

} // namespace esp::node
