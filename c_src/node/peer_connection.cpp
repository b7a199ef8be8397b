#include "node/peer_connection.hpp"

#include "base/log.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <utility>

namespace esp::node {

namespace {

using std::chrono::milliseconds;
using clock = std::chrono::steady_clock;

// Large reads: one system call brings many small signals.
constexpr std::size_t read_size = 128 * 1'024;

// A frame of a signal at the cap has this much more at most.
constexpr std::size_t frame_overhead = 4'096;

// net_tickintensity of kernel(6).
constexpr int quarters = 4;

// A tick so soon behind one of ours is most likely the answer to it: two
// nodes that answer every tick would else never end.
constexpr milliseconds longest_echo{1'000};

// Of one thread: the connections it sent to since its last flush. A worker
// talks to few peers between two flushes; a thread that talks to many
// flushes early rather than search a long list.
constexpr std::size_t most_unflushed = 32;

constinit thread_local bool unflushed = false;
thread_local std::vector<connection_ptr> unflushed_connections;

// Shared by all connections: a hostile node may come again and again.
base::log_limiter& limiter() {
  static base::log_limiter l;
  return l;
}

void remember_unflushed(peer_connection& c) {
  auto& all = unflushed_connections;
  const auto is_c = [&](const connection_ptr& one) { return one.get() == &c; };
  if (std::any_of(all.rbegin(), all.rend(), is_c)) {
    return;
  }
  if (all.size() == most_unflushed) {
    flush_unflushed();
  }
  all.push_back(c.shared_from_this());
  unflushed = true;
}

} // namespace

bool has_unflushed() noexcept {
  return unflushed;
}

void flush_unflushed() {
  unflushed = false;
  // A flush may lead to a send, not to another flush of this list's content.
  auto all = std::exchange(unflushed_connections, {});
  for (auto& c : all) {
    c->flush();
  }
  all.clear();
  if (unflushed_connections.empty()) {
    unflushed_connections = std::move(all); // its memory is good enough
  }
}

peer_connection::peer_connection(net::io_ptr i, identity who,
                                 const peer_options& options,
                                 peer_events& events, lost on_lost)
    : io_(std::move(i)),
      who_(who),
      events_(events),
      on_lost_(std::move(on_lost)),
      framing_(dist::has_dist_header(who.flags) ? dist::framing::dist_header
                                                : dist::framing::pass_through),
      caps_{options.max_depth, options.max_inflated},
      max_signal_(options.max_signal),
      quarter_(std::max(options.net_ticktime / quarters, milliseconds{1})),
      output_(who.flags,
              {options.high_water, options.low_water, options.max_output}),
      splitter_(who.flags, options.max_signal + frame_overhead),
      joiner_({.max_signal = options.max_signal,
               .max_total = options.max_signal,
               .max_sequences = options.max_fragment_sequences}) {}

void peer_connection::open(net::stream_ptr s) {
  stream_ = std::move(s);
  output_.open(stream_->native_handle());
  is_up_.store(true, std::memory_order_release);
}

void peer_connection::start(const std::vector<std::byte>& leftover) {
  timer_.emplace(*io_);
  set_quarter();
  splitter_.feed(leftover);
  bytes_in_ += leftover.size();
  take_frames();
  if (is_up()) {
    stream_->read_for(shared_from_this());
  }
}

void peer_connection::drop(const std::string& why) {
  if (!is_up_.exchange(false)) {
    return;
  }
  auto self = shared_from_this(); // the stream may have been the last holder
  const int fd = stream_->release();
  if (fd >= 0) {
    ::shutdown(fd, SHUT_RDWR);
  }
  output_.close();
  stream_ = nullptr;
  timer_.reset();
  // Somebody may hold us for long; what never becomes whole need not stay.
  splitter_ = dist::frame_splitter{who_.flags};
  joiner_ = dist::fragment_joiner{};
  std::exchange(on_lost_, nullptr)(self, why);
  run_resumes();
}

// ---- Sending ---------------------------------------------------------------

void peer_connection::send(const dist::control& c) {
  switch (output_.append(c)) {
  case peer_output::appended::quietly:
    return remember_unflushed(*this);
  case peer_output::appended::enough:
    return flush();
  case peer_output::appended::too_much:
    return close("does not read: " + std::to_string(output_.waiting())
                 + " bytes wait for it");
  case peer_output::appended::nowhere:
    return;
  }
}

void peer_connection::flush() {
  wrote(output_.flush());
}

void peer_connection::on_writable() {
  wrote(output_.resume());
}

void peer_connection::wrote(peer_output::flushed f) {
  switch (f) {
  case peer_output::flushed::done:
    break;
  case peer_output::flushed::blocked:
    io_->post([self = shared_from_this()] {
      if (self->is_up()) {
        self->stream_->wait_writable();
      }
    });
    break;
  case peer_output::flushed::broken:
    io_->post([self = shared_from_this()] { self->drop("connection broken"); });
    break;
  }
  if (output_.has_drained()) {
    io_->post([self = shared_from_this()] { self->run_resumes(); });
  }
}

void peer_connection::run_resumes() {
  for (auto& resume : output_.take_resumes()) {
    resume();
  }
}

void peer_connection::on_drain(std::function<void()> resume) {
  if (!output_.keep_resume(resume)) {
    resume();
  }
}

void peer_connection::close(std::string why) {
  io_->post([self = shared_from_this(), why = std::move(why)] {
    if (self->is_up()) {
      limiter().log(base::log_level::warning,
                    "closing the connection to "
                        + std::string{self->name().name()} + ": " + why);
      self->drop(why);
    }
  });
}

peer::counters peer_connection::count() const noexcept {
  return {.bytes_in = bytes_in_,
          .bytes_out = output_.bytes_out(),
          .signals_in = signals_in_,
          .signals_out = output_.signals_out(),
          .dropped_too_large = too_large_};
}

// ---- Reading ---------------------------------------------------------------

std::span<std::byte> peer_connection::read_room() {
  return splitter_.prepare(read_size);
}

void peer_connection::on_read(std::size_t count) {
  bytes_in_.store(bytes_in_.load(std::memory_order_relaxed) + count,
                  std::memory_order_relaxed);
  splitter_.commit(count);
  take_frames();
}

void peer_connection::on_end(const std::string& why) {
  drop(why);
}

void peer_connection::take_frames() {
  const peer_ptr self = shared_from_this();
  while (is_up()) {
    auto f = splitter_.next();
    if (!f) {
      drop_malformed(f.error());
      break;
    }
    if (!*f) {
      break;
    }
    if (auto taken = take(self, **f); !taken) {
      drop_malformed(taken.error());
      break;
    }
  }
  events_.on_batch_end();
  if (is_up() && std::exchange(saw_tick_, false)) {
    answer_tick();
  }
  if (has_unflushed()) {
    flush_unflushed();
  }
}

result<void> peer_connection::take(const peer_ptr& self, const dist::frame& f) {
  switch (f.kind) {
  case dist::frame_kind::tick:
    saw_tick_ = true;
    return {};
  case dist::frame_kind::signal:
    if (f.is_oversize || f.body.size() > max_signal_) {
      count_too_large();
      return {};
    }
    return take_signal(self, f.body);
  case dist::frame_kind::first_fragment:
  case dist::frame_kind::next_fragment:
    break;
  }
  auto added = joiner_.add(f);
  if (!added) {
    return added.error();
  }
  if (*added == dist::fragment_joiner::outcome::dropped) {
    count_too_large();
  } else if (*added == dist::fragment_joiner::outcome::complete) {
    auto taken = take_signal(self, joiner_.body());
    joiner_.forget_body();
    return taken;
  }
  return {};
}

result<void> peer_connection::take_signal(const peer_ptr& self,
                                          std::span<const std::byte> body) {
  auto c = dist::decode_control(body, framing_, caps_);
  if (!c) {
    return c.error();
  }
  if (auto checked = dist::check_origin(*c, who_.name); !checked) {
    return checked;
  }
  signals_in_.store(signals_in_.load(std::memory_order_relaxed) + 1,
                    std::memory_order_relaxed);
  events_.on_signal(self, std::move(*c));
  return {};
}

void peer_connection::count_too_large() {
  too_large_ += 1;
  limiter().log(base::log_level::warning,
                "dropped a signal of more than " + std::to_string(max_signal_)
                    + " bytes from " + std::string{name().name()});
}

void peer_connection::drop_malformed(const esp::error& e) {
  const std::string why = std::string{esp::name(e.code)} + " signal: " + e.what;
  limiter().log(base::log_level::warning, "closing the connection to "
                                              + std::string{name().name()}
                                              + ": " + why);
  drop(why);
}

// ---- Ticks -----------------------------------------------------------------

void peer_connection::answer_tick() {
  const auto now = clock::now();
  if (now - last_answer_ < std::min(quarter_ / 2, longest_echo)) {
    return;
  }
  last_answer_ = now;
  output_.append_tick();
  flush();
}

void peer_connection::set_quarter() {
  timer_->after(quarter_, [weak = weak_from_this()] {
    if (auto self = weak.lock(); self && self->is_up()) {
      self->on_quarter();
    }
  });
}

void peer_connection::on_quarter() {
  silent_quarters_ = bytes_in_ == read_at_quarter_ ? silent_quarters_ + 1 : 0;
  read_at_quarter_ = bytes_in_;
  if (silent_quarters_ >= quarters) {
    base::log(base::log_level::warning,
              std::string{name().name()} + " is silent: net tick timeout");
    return drop("net tick timeout");
  }
  if (output_.bytes_out() == written_at_quarter_) {
    last_answer_ = clock::now();
    output_.append_tick();
    flush();
  }
  written_at_quarter_ = output_.bytes_out();
  set_quarter();
}

} // namespace esp::node
