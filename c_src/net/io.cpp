#include "net/io.hpp"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <pthread.h>

#include <atomic>
#include <future>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

namespace esp::net {

namespace asio = boost::asio;

struct io::state {
  // One thread runs it: Asio may leave out some locks.
  asio::io_context context{1};
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>>
      work;
  std::thread thread;
  std::atomic<std::thread::id> id{};
  std::mutex mutex; // between post() and stop()
  bool stopped = false;
};

io::io() : s_(std::make_unique<state>()) {
  s_->work.emplace(asio::make_work_guard(s_->context));
}

io::~io() {
  stop();
}

void io::start() {
  s_->thread = std::thread([this] {
    pthread_setname_np(pthread_self(), "esp_io");
    s_->id = std::this_thread::get_id();
    s_->context.run();
  });
}

void io::stop() {
  {
    std::lock_guard lock{s_->mutex};
    if (std::exchange(s_->stopped, true)) {
      return;
    }
    // Behind all that was posted: that still runs.
    asio::post(s_->context, [this] { s_->context.stop(); });
    s_->work.reset();
  }
  if (s_->thread.joinable()) {
    s_->thread.join();
  }
  // Completions of what was closed hold their owners; let them go. What
  // cannot complete now, a host name being resolved, goes with the context.
  s_->id = std::this_thread::get_id();
  s_->context.restart();
  s_->context.poll();
}

bool io::post(std::function<void()> f) {
  std::lock_guard lock{s_->mutex};
  if (s_->stopped) {
    return false;
  }
  asio::post(s_->context, std::move(f));
  return true;
}

bool io::run(const std::function<void()>& f) {
  std::promise<void> done;
  auto when = done.get_future();
  if (!post([&] {
        f();
        done.set_value();
      })) {
    return false;
  }
  when.wait();
  return true;
}

bool io::is_io_thread() const noexcept {
  return s_->id.load() == std::this_thread::get_id();
}

asio::io_context& io::context() noexcept {
  return s_->context;
}

} // namespace esp::net
