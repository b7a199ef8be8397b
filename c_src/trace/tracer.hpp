// Whom trace messages are for, and those that are on their way there. Between
// a process that is traced and a tracer that is slow there is a bound: what is
// beyond it is dropped, and {drop, N} says so in its place, as OTP's trace
// ports do.

#pragma once

#include "esp/term.hpp"

#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

namespace esp::trace {

// Thread safe.
class tracer : public boost::intrusive_ref_counter<tracer> {
public:
  virtual ~tracer() = default;

  struct limits {
    std::size_t events = 10'000;
    std::size_t bytes = std::size_t{16} << 20;
  };

  // `name` is what erlang:trace_info/2 shows: a pid or a port. `wake` is called
  // when there is something to take, on any thread, under a lock.
  tracer(term name, limits most, std::function<void()> wake)
      : name_(std::move(name)), most_(most), wake_(std::move(wake)) {}

  const term& name() const noexcept { return name_; }

  // Never waits. False: it has ended.
  virtual bool put(term event);
  // Nothing is taken any more, and nobody is woken.
  void close();
  bool is_open() const;

  // At most so many, in order.
  std::vector<term> take(std::size_t most);
  bool has_events() const noexcept { return has_events_.load(); }
  // So many that take() gave are on their way.
  void passed_on(std::size_t n);

  // Calls `f` when all that has been put by now is on its way, or it has ended;
  // and asks whoever takes to be quick about it.
  void when_flushed(std::function<void()> f);
  bool is_hurried() const noexcept { return is_hurried_.load(); }

private:
  const term name_;
  const limits most_;
  mutable std::mutex mutex_;
  std::function<void()> wake_;
  std::deque<term> events_;
  std::size_t bytes_ = 0;
  std::uint64_t dropped_ = 0; // since the last of events_
  std::uint64_t put_ = 0, passed_ = 0; // {drop, N} count, too
  std::vector<std::pair<std::uint64_t, std::function<void()>>> waiting_;
  bool is_open_ = true;
  // What whoever takes asks under its own lock, which waking it takes under
  // this mutex. They change under the mutex, before it is woken.
  std::atomic<bool> has_events_{false}, is_hurried_{false};
};

using tracer_ptr = boost::intrusive_ptr<tracer>;

// {drop, N}, which is no event.
term dropped(std::uint64_t n);

} // namespace esp::trace
