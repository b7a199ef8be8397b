#include "node/peer_setup.hpp"

#include <algorithm>
#include <utility>

namespace esp::node {

peer_setup::peer_setup(net::io& i, setup_owner& owner, bool is_dial)
    : io_(i), owner_(&owner), is_dial_(is_dial), timer_(i) {}

setup_ptr peer_setup::accept(net::io& i, setup_owner& owner, net::stream_ptr s,
                             dist::handshake_options options,
                             std::chrono::milliseconds limit) {
  auto p = std::make_shared<peer_setup>(i, owner, false);
  p->stream_ = std::move(s);
  p->handshake_.emplace(dist::handshake::accept(std::move(options)));
  p->begin(limit);
  p->stream_->read_for(p);
  return p;
}

setup_ptr peer_setup::dial(net::io& i, setup_owner& owner, const where& w,
                           const std::string& node,
                           dist::handshake_options options,
                           std::chrono::milliseconds limit) {
  auto p = std::make_shared<peer_setup>(i, owner, true);
  p->dialled_ = node;
  p->options_ = std::move(options);
  p->begin(limit);
  net::resolve(i, node.substr(node.find('@') + 1),
               [weak = std::weak_ptr{p}, &i, w, node](auto addresses) {
                 // Never from within dial(): its caller does not have it yet.
                 i.post([weak, w, node, addresses = std::move(addresses)] {
                   if (auto self = weak.lock(); self && self->owner_) {
                     self->look_up(w, node, addresses);
                   }
                 });
               });
  return p;
}

void peer_setup::begin(std::chrono::milliseconds limit) {
  timer_.after(limit, [weak = weak_from_this()] {
    if (auto self = weak.lock()) {
      self->fail({errc::timeout, "not connected in time"});
    }
  });
}

// A node of this machine is registered with our own epmd, which may listen on
// loopback alone, and it may itself; so that is tried too.
void peer_setup::look_up(const where& w, const std::string& node,
                         result<std::vector<std::string>> addresses) {
  if (!addresses) {
    return fail(addresses.error());
  }
  const auto at = node.find('@');
  const bool is_near =
      node.compare(at + 1, std::string::npos, w.own_host) == 0
      || std::any_of(addresses->begin(), addresses->end(), net::is_own_address);
  std::vector<net::endpoint> epmds;
  if (is_near) {
    epmds.push_back(w.own_epmd);
    if (std::find(addresses->begin(), addresses->end(), "127.0.0.1")
        == addresses->end()) {
      addresses->push_back("127.0.0.1");
    }
  } else {
    for (const auto& a : *addresses) {
      epmds.push_back({a, w.own_epmd.port});
    }
  }
  lookup_ =
      epmd::lookup::start(io_, std::move(epmds), node.substr(0, at),
                          [weak = weak_from_this(), addresses = *addresses](
                              result<epmd::node_entry> entry) {
                            auto self = weak.lock();
                            if (!self || !self->owner_) {
                              return;
                            }
                            if (!entry) {
                              return self->fail(entry.error());
                            }
                            self->connect(addresses, entry->port);
                          });
}

void peer_setup::connect(std::vector<std::string> addresses,
                         std::uint16_t port) {
  std::vector<net::endpoint> to;
  for (auto& a : addresses) {
    to.push_back({std::move(a), port});
  }
  stream_ = net::stream::make(io_);
  stream_->connect(std::move(to), [self = shared_from_this()](auto connected) {
    if (!self->owner_) {
      return;
    }
    if (!connected) {
      return self->fail(connected.error());
    }
    self->handshake_.emplace(
        dist::handshake::initiate(std::move(self->options_), self->dialled_));
    self->step();
    if (self->owner_) {
      self->stream_->read_for(self);
    }
  });
}

void peer_setup::on_read(std::size_t count) {
  handshake_->feed({room_.data(), count});
  step();
}

void peer_setup::on_end(const std::string& why) {
  fail({errc::noconnection, why + " in the handshake"});
}

void peer_setup::step() {
  using state = dist::handshake::state;
  for (;;) {
    switch (handshake_->current()) {
    case state::asking:
      if (handshake_->wants_name()) {
        auto [name, creation] = owner_->on_wants_name(handshake_->peer_name());
        handshake_->answer_named(name, creation);
      } else {
        handshake_->answer(owner_->on_asking(handshake_->peer_name()));
      }
      continue;
    case state::alive:
      // The other side does not know yet that its old connection to us is
      // gone; we do, else we would not dial.
      handshake_->replace(true);
      continue;
    case state::reading:
    case state::connected:
    case state::failed:
      break;
    }
    break;
  }
  const bool is_sent = stream_->write_now(handshake_->take_output());
  if (handshake_->current() == state::failed) {
    const auto& why = handshake_->error();
    lost_to_their_dial_ = is_dial_ && why.code == errc::refused
                          && why.what.ends_with(" answered nok");
    return fail(why);
  }
  if (!is_sent) {
    return fail({errc::io, "cannot write in the handshake"});
  }
  if (handshake_->current() == state::connected) {
    timer_.cancel();
    std::exchange(owner_, nullptr)->on_connected(shared_from_this());
  }
}

net::stream_ptr peer_setup::take_stream() {
  return std::exchange(stream_, nullptr);
}

const std::string& peer_setup::peer_name() const noexcept {
  return is_dial_ || !handshake_ ? dialled_ : handshake_->peer_name();
}

void peer_setup::cancel() {
  owner_ = nullptr;
  timer_.cancel();
  lookup_ = nullptr;
  if (stream_) {
    stream_->close();
    stream_ = nullptr;
  }
}

void peer_setup::fail(const esp::error& why) {
  if (auto* owner = std::exchange(owner_, nullptr)) {
    auto self = shared_from_this();
    const esp::error copy = why;
    cancel();
    owner->on_failed(self, copy);
  }
}

} // namespace esp::node
