#include "net/timer.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <utility>

namespace esp::net {

struct timer::state {
  explicit state(boost::asio::io_context& c) : timer(c) {}
  boost::asio::steady_timer timer;
  // An expiry that is queued already comes without an error even after a
  // cancel; its number tells that it is stale.
  std::uint64_t generation = 0;
  std::function<void()> f;
};

timer::timer(io& i) : s_(std::make_shared<state>(i.context())) {}

timer::~timer() {
  cancel();
}

void timer::after(std::chrono::milliseconds delay, std::function<void()> f) {
  s_->timer.expires_after(delay);
  s_->f = std::move(f);
  s_->timer.async_wait([s = s_, mine = ++s_->generation](auto error) {
    if (!error && s->generation == mine) {
      std::exchange(s->f, nullptr)();
    }
  });
}

void timer::cancel() {
  ++s_->generation;
  s_->f = nullptr;
  s_->timer.cancel();
}

} // namespace esp::net
