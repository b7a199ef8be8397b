#include "epmd/client.hpp"

#include "base/log.hpp"
#include "net/stream.hpp"
#include "net/timer.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <utility>
#include <vector>

namespace esp::epmd {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds first_backoff{50};
constexpr milliseconds longest_backoff{1'000};
constexpr milliseconds reply_limit{5'000};

// A node of our name that has just ended stays in epmd's table until epmd has
// read the end of its connection: a restart must not fail for that.
constexpr milliseconds taken_pause{50};
constexpr int taken_attempts = 10;

// A registration's reply is 4 or 6 bytes; more than this is no epmd.
constexpr std::size_t longest_alive_reply = 64;

std::string text_of(const net::endpoint& e) {
  return e.address + ":" + std::to_string(e.port);
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

} // namespace

net::endpoint default_endpoint(const std::string& address, std::uint16_t port) {
  net::endpoint e{address, port};
  if (e.address.empty()) {
    auto listed = environment("ERL_EPMD_ADDRESS");
    e.address = listed.substr(0, listed.find(','));
  }
  if (!net::is_address(e.address)) {
    e.address = "127.0.0.1";
  }
  if (e.port == 0) {
    const long given =
        std::strtol(environment("ERL_EPMD_PORT").c_str(), nullptr, 10);
    e.port = given > 0 && given <= 65'535 ? static_cast<std::uint16_t>(given)
                                          : default_port;
  }
  return e;
}

// ---- Registration ----------------------------------------------------------

class registration::session final
    : public net::stream::user,
      public std::enable_shared_from_this<session> {
public:
  session(net::io& i, registration_request r,
          std::function<void(result<std::uint32_t>)> first)
      : io_(i), request_(std::move(r)), first_(std::move(first)), timer_(i) {}

  void connect();
  void stop();

  std::span<std::byte> read_room() override { return room_; }
  void on_read(std::size_t count) override;
  void on_end(const std::string& why) override;

private:
  void register_now(const std::vector<std::byte>& alive);
  void lost(errc code, const std::string& why);

  net::io& io_;
  const registration_request request_;
  std::function<void(result<std::uint32_t>)> first_; // none once called
  net::timer timer_; // the limit of a reply, or the next attempt
  net::stream_ptr stream_;
  std::array<std::byte, longest_alive_reply> room_{};
  std::vector<std::byte> reply_;
  bool is_registered_ = false;
  int taken_attempts_ = taken_attempts;
  milliseconds backoff_ = first_backoff;
  base::log_limiter log_{1};
};

void registration::session::connect() {
  auto alive = encode_alive(request_.name, request_.port, request_.is_hidden);
  if (!alive) {
    return lost(alive.error().code, alive.error().what);
  }
  reply_.clear();
  stream_ = net::stream::make(io_);
  auto self = shared_from_this();
  timer_.after(reply_limit,
               [self] { self->lost(errc::timeout, "no answer in time"); });
  stream_->connect({request_.epmd},
                   [self, alive = std::move(*alive)](auto connected) {
                     if (!connected) {
                       return self->lost(errc::io, connected.error().what);
                     }
                     self->register_now(alive);
                   });
}

void registration::session::register_now(const std::vector<std::byte>& alive) {
  if (!stream_->write_now(alive)) {
    return lost(errc::io, "cannot write");
  }
  stream_->read_for(shared_from_this());
}

void registration::session::on_read(std::size_t count) {
  if (is_registered_) {
    return; // epmd has nothing more to say; whatever this is, it is not for us
  }
  reply_.insert(reply_.end(), room_.begin(),
                room_.begin() + static_cast<std::ptrdiff_t>(count));
  auto creation = decode_alive_reply(reply_);
  if (!creation) {
    if (creation.error().code != errc::truncated
        || reply_.size() > longest_alive_reply) {
      lost(creation.error().code, creation.error().what);
    }
    return;
  }
  is_registered_ = true;
  backoff_ = first_backoff;
  timer_.cancel();
  if (auto first = std::exchange(first_, nullptr)) {
    first(*creation);
  } else {
    base::log(base::log_level::notice,
              "registered again with epmd at " + text_of(request_.epmd));
  }
}

void registration::session::on_end(const std::string& why) {
  lost(errc::io, why);
}

void registration::session::lost(errc code, const std::string& why) {
  if (stream_) {
    stream_->close();
  }
  timer_.cancel();
  if (first_ && code == errc::already && --taken_attempts_ > 0) {
    timer_.after(taken_pause, [self = shared_from_this()] { self->connect(); });
    return;
  }
  const auto what = "epmd at " + text_of(request_.epmd) + ": " + why;
  if (auto first = std::exchange(first_, nullptr)) {
    return first(error{code, what});
  }
  if (std::exchange(is_registered_, false)) {
    backoff_ = first_backoff;
  }
  log_.log(base::log_level::warning, what + "; registering again");
  timer_.after(backoff_, [self = shared_from_this()] { self->connect(); });
  backoff_ = std::min(2 * backoff_, longest_backoff);
}

void registration::session::stop() {
  first_ = nullptr;
  timer_.cancel();
  if (stream_) {
    stream_->close();
  }
}

registration::registration(std::shared_ptr<session> s)
    : session_(std::move(s)) {}

registration::~registration() {
  session_->stop();
}

std::unique_ptr<registration>
registration::start(net::io& i, registration_request request,
                    std::function<void(result<std::uint32_t>)> first) {
  auto s = std::make_shared<session>(i, std::move(request), std::move(first));
  std::unique_ptr<registration> r{new registration(s)};
  s->connect();
  return r;
}

// ---- Look-up ---------------------------------------------------------------

class lookup::session final : public net::stream::user,
                              public std::enable_shared_from_this<session> {
public:
  session(net::io& i, std::function<void(result<node_entry>)> done)
      : stream_(net::stream::make(i)), done_(std::move(done)) {}

  void start(std::vector<net::endpoint> epmds, const std::string& name) {
    auto please = encode_port_please(name);
    if (!please) {
      return finish(please.error());
    }
    stream_->connect(std::move(epmds), [self = shared_from_this(),
                                        please = *please](auto connected) {
      if (!connected) {
        return self->finish(
            error{errc::io, "epmd at " + connected.error().what});
      }
      if (!self->stream_->write_now(please)) {
        return self->finish(error{errc::io, "cannot write to epmd"});
      }
      self->stream_->read_for(self);
    });
  }
  void cancel() {
    done_ = nullptr;
    stream_->close();
  }

  std::span<std::byte> read_room() override { return room_; }
  void on_read(std::size_t count) override {
    reply_.insert(reply_.end(), room_.begin(),
                  room_.begin() + static_cast<std::ptrdiff_t>(count));
    auto entry = decode_port_reply(reply_);
    if (entry || entry.error().code != errc::truncated
        || reply_.size() > max_port_reply) {
      finish(std::move(entry));
    }
  }
  void on_end(const std::string& why) override {
    finish(error{errc::io, "epmd: " + why});
  }

private:
  void finish(result<node_entry> r) {
    stream_->close();
    if (auto done = std::exchange(done_, nullptr)) {
      done(std::move(r));
    }
  }

  net::stream_ptr stream_;
  std::function<void(result<node_entry>)> done_;
  std::array<std::byte, 512> room_{};
  std::vector<std::byte> reply_;
};

lookup::lookup(std::shared_ptr<session> s) : session_(std::move(s)) {}

lookup::~lookup() {
  session_->cancel();
}

std::unique_ptr<lookup>
lookup::start(net::io& i, std::vector<net::endpoint> epmds,
              const std::string& name,
              std::function<void(result<node_entry>)> done) {
  auto s = std::make_shared<session>(i, std::move(done));
  std::unique_ptr<lookup> l{new lookup(s)};
  s->start(std::move(epmds), name);
  return l;
}

} // namespace esp::epmd
