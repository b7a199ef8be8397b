// One connection after its handshake: reads frames and reports signals on the
// I/O thread, writes what any thread sends, keeps the ticks.

#pragma once

#include "dist/fragment.hpp"
#include "dist/frame.hpp"
#include "net/io.hpp"
#include "net/stream.hpp"
#include "net/timer.hpp"
#include "node/peer_output.hpp"
#include "node/peers.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace esp::node {

class peer_connection;
using connection_ptr = std::shared_ptr<peer_connection>;

// What a thread has sent and not yet flushed; peers::flush().
bool has_unflushed() noexcept;
void flush_unflushed();

class peer_connection final
    : public peer,
      public net::stream::user,
      public std::enable_shared_from_this<peer_connection> {
public:
  struct identity {
    atom name;
    std::uint64_t flags = 0;
    std::uint32_t creation = 0;
  };
  // Called on the I/O thread, once, when the connection is lost.
  using lost = std::function<void(const connection_ptr&, const std::string&)>;

  peer_connection(net::io_ptr i, identity who, const peer_options& options,
                  peer_events& events, lost on_lost);

  // From here on sends are taken. Any time before start().
  void open(net::stream_ptr s);
  // Reads: first what the handshake read too much. I/O thread.
  void start(const std::vector<std::byte>& leftover);
  // Ends it: on_lost, then everybody who waits for it to drain. I/O thread.
  void drop(const std::string& why);

  // ---- peer; any thread
  atom name() const noexcept override { return who_.name; }
  std::uint64_t flags() const noexcept override { return who_.flags; }
  std::uint32_t creation() const noexcept override { return who_.creation; }
  bool is_up() const noexcept override {
    return is_up_.load(std::memory_order_acquire);
  }
  void send(const dist::control& c) override;
  void flush() override;
  bool is_congested() const noexcept override { return output_.is_congested(); }
  void on_drain(std::function<void()> resume) override;
  void close(std::string why) override;
  counters count() const noexcept override;

  // ---- net::stream::user; I/O thread
  std::span<std::byte> read_room() override;
  void on_read(std::size_t count) override;
  void on_end(const std::string& why) override;
  void on_writable() override;

private:
  void take_frames();
  result<void> take(const peer_ptr& self, const dist::frame& f);
  result<void> take_signal(const peer_ptr& self,
                           std::span<const std::byte> body);
  void drop_malformed(const esp::error& e);
  void count_too_large();
  void answer_tick();
  void on_quarter();
  void set_quarter();
  void wrote(peer_output::flushed f);
  void run_resumes();

  const net::io_ptr io_;
  const identity who_;
  peer_events& events_;
  lost on_lost_;
  const dist::framing framing_;
  const etf::limits caps_;
  const std::size_t max_signal_;
  const std::chrono::milliseconds quarter_; // of net_ticktime

  std::atomic<bool> is_up_{false};
  peer_output output_;
  std::atomic<std::uint64_t> bytes_in_{0}, signals_in_{0}, too_large_{0};

  // Of the I/O thread.
  net::stream_ptr stream_;
  std::optional<net::timer> timer_;
  dist::frame_splitter splitter_;
  dist::fragment_joiner joiner_;
  bool saw_tick_ = false;
  std::chrono::steady_clock::time_point last_answer_{};
  std::uint64_t read_at_quarter_ = 0, written_at_quarter_ = 0;
  int silent_quarters_ = 0;
};

} // namespace esp::node
