#include "node/peer_output.hpp"

#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace esp::node {

namespace {

// A chunk is full, and a flush worth while, from here on.
constexpr std::size_t chunk_size = 64 * 1'024;

// A signal whose terms are larger than this is encoded outside of the lock.
constexpr std::size_t large_signal = 16 * 1'024;

// Chunks kept for reuse, unless a large signal made them large.
constexpr std::size_t most_spares = 2;
constexpr std::size_t largest_spare = 4 * chunk_size;

// A thread that wants to do something else writes at most this often what
// others append meanwhile; then the I/O thread goes on.
constexpr int most_rounds = 8;

constexpr std::size_t most_buffers = 64;

std::size_t term_size(const term& t) noexcept {
  return t.bytes().size();
}

} // namespace

std::size_t payload_size(const dist::control& c) {
  struct size_of {
    std::size_t operator()(const dist::send& s) { return term_size(s.message); }
    std::size_t operator()(const dist::reg_send& s) {
      return term_size(s.message);
    }
    std::size_t operator()(const dist::exit& s) { return term_size(s.reason); }
    std::size_t operator()(const dist::exit2& s) { return term_size(s.reason); }
    std::size_t operator()(const dist::monitor_exit& s) {
      return term_size(s.reason);
    }
    std::size_t operator()(const dist::spawn_request& s) {
      return term_size(s.args);
    }
    std::size_t operator()(const dist::link&) { return 0; }
    std::size_t operator()(const dist::unlink&) { return 0; }
    std::size_t operator()(const dist::unlink_ack&) { return 0; }
    std::size_t operator()(const dist::group_leader&) { return 0; }
    std::size_t operator()(const dist::monitor&) { return 0; }
    std::size_t operator()(const dist::demonitor&) { return 0; }
    std::size_t operator()(const dist::spawn_reply&) { return 0; }
  };
  return std::visit(size_of{}, c);
}

peer_output::peer_output(std::uint64_t flags, limits l)
    : flags_(flags), limits_(l) {}

peer_output::~peer_output() {
  if (fd_ >= 0 && !is_open_) {
    ::close(fd_);
  }
}

void peer_output::open(int fd) {
  std::lock_guard lock{mutex_};
  fd_ = fd;
  is_open_ = true;
}

void peer_output::close() {
  std::lock_guard lock{mutex_};
  is_open_ = false;
  filling_ = {};
  full_.clear();
  // A writer inside ::send keeps the descriptor from being reused until it
  // has come back; it closes it then. One that is waited for by the I/O
  // thread, which is us, is not inside.
  if (!is_writing_ || is_parked_) {
    finish();
  }
}

// With the lock held, when nobody writes.
void peer_output::finish() {
  if (fd_ >= 0) {
    ::close(std::exchange(fd_, -1));
  }
  writing_.clear();
  waiting_ = 0;
}

void peer_output::encoded(std::size_t size) noexcept {
  waiting_.fetch_add(size, std::memory_order_seq_cst);
  signals_out_.fetch_add(1, std::memory_order_relaxed);
}

peer_output::appended peer_output::append(const dist::control& c) {
  if (waiting() > limits_.most) {
    return appended::too_much;
  }
  if (payload_size(c) < large_signal) {
    std::lock_guard lock{mutex_};
    if (!is_open_) {
      return appended::nowhere;
    }
    const auto before = filling_.size();
    std::uint64_t unused = 0; // smaller than a fragment
    if (!dist::append_frame(filling_, c, flags_, unused)) {
      return appended::nowhere;
    }
    encoded(filling_.size() - before);
    if (filling_.size() < chunk_size) {
      return appended::quietly;
    }
    full_.push_back(std::exchange(filling_, spare()));
    return appended::enough;
  }
  std::uint64_t sequence = next_sequence_.fetch_add(1);
  chunk large;
  if (!dist::append_frame(large, c, flags_, sequence)) {
    return appended::nowhere;
  }
  std::lock_guard lock{mutex_};
  if (!is_open_) {
    return appended::nowhere;
  }
  encoded(large.size());
  if (!filling_.empty()) {
    full_.push_back(std::exchange(filling_, spare()));
  }
  full_.push_back(std::move(large));
  return appended::enough;
}

void peer_output::append_tick() {
  std::lock_guard lock{mutex_};
  if (is_open_ && !is_writing_ && filling_.empty() && full_.empty()) {
    dist::append_tick(filling_);
    waiting_.fetch_add(filling_.size(), std::memory_order_seq_cst);
  }
}

peer_output::flushed peer_output::flush() {
  {
    std::lock_guard lock{mutex_};
    if (!is_open_ || is_writing_ || (filling_.empty() && full_.empty())) {
      return flushed::done;
    }
    is_writing_ = true;
  }
  return write_rounds();
}

peer_output::flushed peer_output::resume() {
  {
    std::lock_guard lock{mutex_};
    if (!is_open_) {
      return flushed::done;
    }
    is_parked_ = false;
  }
  return write_rounds();
}

// By the one who set is_writing_.
peer_output::flushed peer_output::write_rounds() {
  for (int round = 0;; ++round) {
    auto came = writing_.empty() ? flushed::done : write_some();
    std::lock_guard lock{mutex_};
    if (!is_open_) {
      is_writing_ = false;
      finish();
      return flushed::done;
    }
    if (came == flushed::broken) {
      is_writing_ = false;
      return flushed::broken;
    }
    if (came == flushed::blocked || round == most_rounds) {
      is_parked_ = true;
      return flushed::blocked;
    }
    if (full_.empty() && filling_.empty()) {
      is_writing_ = false;
      return flushed::done;
    }
    std::swap(writing_, full_);
    if (!filling_.empty()) {
      writing_.push_back(std::exchange(filling_, spare()));
    }
  }
}

peer_output::flushed peer_output::write_some() {
  while (!writing_.empty()) {
    std::array<iovec, most_buffers> buffers{};
    std::size_t count = 0;
    for (auto& c : writing_) {
      const std::size_t skip = count == 0 ? written_ : 0;
      buffers[count++] = {c.data() + skip, c.size() - skip};
      if (count == most_buffers) {
        break;
      }
    }
    msghdr message{};
    message.msg_iov = buffers.data();
    message.msg_iovlen = count;
    const auto sent = ::sendmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) {
        continue;
      }
      return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS
                 ? flushed::blocked
                 : flushed::broken;
    }
    auto left = static_cast<std::size_t>(sent);
    bytes_out_.fetch_add(left, std::memory_order_relaxed);
    waiting_.fetch_sub(left, std::memory_order_seq_cst);
    while (!writing_.empty() && written_ + left >= writing_.front().size()) {
      left -= writing_.front().size() - written_;
      written_ = 0;
      recycle(std::move(writing_.front()));
      writing_.pop_front();
    }
    written_ += left;
  }
  return flushed::done;
}

// With the lock held.
peer_output::chunk peer_output::spare() {
  chunk c;
  if (!spares_.empty()) {
    c = std::move(spares_.back());
    spares_.pop_back();
  }
  return c;
}

void peer_output::recycle(chunk&& c) {
  if (c.capacity() > largest_spare) {
    chunk freed{std::move(c)};
    return;
  }
  c.clear();
  std::lock_guard lock{mutex_};
  if (spares_.size() < most_spares) {
    spares_.push_back(std::move(c));
  }
}

bool peer_output::keep_resume(std::function<void()>& resume) {
  std::lock_guard lock{mutex_};
  if (!is_open_) {
    return false;
  }
  has_resumes_ = true; // before looking: a writer looks the other way round
  if (waiting_ < limits_.low_water && resumes_.empty()) {
    has_resumes_ = false;
    return false;
  }
  resumes_.push_back(std::move(resume));
  return true;
}

std::vector<std::function<void()>> peer_output::take_resumes() {
  std::lock_guard lock{mutex_};
  has_resumes_ = false;
  return std::exchange(resumes_, {});
}

} // namespace esp::node
