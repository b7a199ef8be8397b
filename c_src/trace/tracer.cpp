#include "trace/tracer.hpp"

#include <algorithm>

namespace esp::trace {

term dropped(std::uint64_t n) {
  static const atom drop("drop");
  return term::tuple({drop, term::integer(static_cast<std::int64_t>(n))});
}

bool tracer::put(term event) {
  const std::lock_guard guard(mutex_);
  if (!is_open_)
    return false;
  const std::size_t size = event.bytes().size();
  if (events_.size() >= most_.events || bytes_ + size > most_.bytes) {
    ++dropped_;
    return true;
  }
  const bool was_empty = events_.empty();
  if (dropped_ > 0) {
    events_.push_back(dropped(std::exchange(dropped_, 0)));
    bytes_ += events_.back().bytes().size();
    ++put_;
  }
  bytes_ += size;
  events_.push_back(std::move(event));
  ++put_;
  has_events_.store(true);
  if (was_empty && wake_)
    wake_();
  return true;
}

void tracer::close() {
  decltype(waiting_) waiting;
  std::function<void()> wake;
  {
    const std::lock_guard guard(mutex_);
    is_open_ = false;
    events_.clear();
    has_events_.store(false);
    is_hurried_.store(false);
    bytes_ = 0;
    waiting.swap(waiting_);
    wake.swap(wake_);
  }
  for (const auto& [n, f] : waiting)
    f();
}

bool tracer::is_open() const {
  const std::lock_guard guard(mutex_);
  return is_open_;
}

std::vector<term> tracer::take(std::size_t most) {
  const std::lock_guard guard(mutex_);
  std::vector<term> taken;
  while (!events_.empty() && taken.size() < most) {
    bytes_ -= events_.front().bytes().size();
    taken.push_back(std::move(events_.front()));
    events_.pop_front();
  }
  has_events_.store(!events_.empty());
  if (events_.empty() && dropped_ > 0) {
    taken.push_back(dropped(std::exchange(dropped_, 0)));
    ++put_;
  }
  return taken;
}

void tracer::passed_on(std::size_t n) {
  std::vector<std::function<void()>> done;
  {
    const std::lock_guard guard(mutex_);
    passed_ += n;
    std::erase_if(waiting_, [&](auto& w) {
      if (w.first > passed_)
        return false;
      done.push_back(std::move(w.second));
      return true;
    });
    is_hurried_.store(!waiting_.empty());
  }
  for (const auto& f : done)
    f();
}

void tracer::when_flushed(std::function<void()> f) {
  {
    const std::lock_guard guard(mutex_);
    if (is_open_ && passed_ < put_) {
      waiting_.emplace_back(put_, std::move(f));
      is_hurried_.store(true);
      if (wake_)
        wake_();
      return;
    }
  }
  f();
}

} // namespace esp::trace
