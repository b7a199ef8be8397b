// A node of one process, the test: records what its connections report, lets
// the test wait for it, and answers a ping as net_kernel does.

#pragma once

#include "node/peers.hpp"
#include "support/os_process.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace test {

class recording_node final : public esp::node::peer_events {
public:
  enum class what { up, signal, down, unreachable };
  struct event {
    what kind;
    esp::node::peer_ptr peer;
    esp::atom node;
    std::optional<esp::dist::control> signal;
    std::string why;
  };

  explicit recording_node(esp::node::peer_options o)
      : name_(o.node_name),
        peers_(esp::node::make_peers(std::move(o), *this)) {}
  ~recording_node() { peers_->stop(); }

  esp::node::peers* operator->() { return peers_.get(); }
  esp::pid self() const { return {esp::atom{name_}, 7, 0, peers_->creation()}; }

  // The first event that fits, taken out; none if it does not come in time.
  std::optional<event> wait_for(const std::function<bool(const event&)>& fits,
                                std::chrono::milliseconds limit = patience) {
    std::unique_lock lock{mutex_};
    std::optional<event> found;
    changed_.wait_for(lock, limit, [&] {
      auto at = std::find_if(events_.begin(), events_.end(), fits);
      if (at == events_.end()) {
        return false;
      }
      found = std::move(*at);
      events_.erase(at);
      return true;
    });
    return found;
  }
  std::optional<event> wait_for(what kind, const std::string& node,
                                std::chrono::milliseconds limit = patience) {
    return wait_for(
        [&](const event& e) { return e.kind == kind && e.node == node; },
        limit);
  }
  std::size_t count(what kind) {
    std::lock_guard lock{mutex_};
    return static_cast<std::size_t>(
        std::count_if(events_.begin(), events_.end(),
                      [&](const event& e) { return e.kind == kind; }));
  }

  // ---- Talking to erlang_node's `oracle`.

  std::int64_t tell(const std::string& node, const std::string& verb,
                    const esp::term& argument) {
    const std::int64_t tag = ++tags_;
    peers_->send(esp::atom{node},
                 esp::dist::reg_send{
                     self(),
                     esp::atom{"oracle"},
                     esp::term::tuple({esp::atom{verb}, self(),
                                       esp::term::integer(tag), argument}),
                     {}});
    return tag;
  }
  std::optional<esp::term>
  answer_to(std::int64_t tag, std::chrono::milliseconds limit = patience) {
    auto e = wait_for(
        [&](const event& one) {
          return one.kind == what::signal && tag_of(*one.signal) == tag;
        },
        limit);
    if (!e) {
      return std::nullopt;
    }
    return std::get<esp::dist::send>(*e->signal).message.element(1);
  }
  // As ~tp prints it; "none" if nothing came.
  std::string eval(const std::string& node, const std::string& text) {
    const auto tag = tell(node, "eval", esp::term::string(text));
    peers_->flush();
    auto r = answer_to(tag);
    return r ? r->to_string() : "none";
  }
  std::optional<esp::term> echo(const std::string& node, const esp::term& x) {
    const auto tag = tell(node, "echo", x);
    peers_->flush();
    return answer_to(tag);
  }

  // ---- peer_events

  void on_up(const esp::node::peer_ptr& p) override {
    record({what::up, p, p->name(), {}, {}});
  }
  void on_signal(const esp::node::peer_ptr& p,
                 esp::dist::control&& c) override {
    if (!answer_ping(p, c)) {
      record({what::signal, p, p->name(), std::move(c), {}});
    }
  }
  void on_down(const esp::node::peer_ptr& p, const std::string& why) override {
    record({what::down, p, p->name(), {}, why});
  }
  void on_unreachable(esp::atom node, const std::string& why) override {
    record({what::unreachable, {}, node, {}, why});
  }

private:
  static std::optional<std::int64_t> tag_of(const esp::dist::control& c) {
    const auto* s = std::get_if<esp::dist::send>(&c);
    if (s == nullptr || s->message.arity() != 2) {
      return std::nullopt;
    }
    return s->message.element(0).as_integer();
  }
  static bool answer_ping(const esp::node::peer_ptr& p,
                          const esp::dist::control& c) {
    const auto* r = std::get_if<esp::dist::reg_send>(&c);
    if (r == nullptr || !(r->to == "net_kernel")
        || !r->message.is_tagged("$gen_call", 3)
        || !r->message.element(2).is_tagged("is_auth", 2)) {
      return false;
    }
    const auto from = r->message.element(1);
    p->send(
        esp::dist::send{std::nullopt,
                        *from.element(0).as_pid(),
                        esp::term::tuple({from.element(1), esp::atom{"yes"}}),
                        {}});
    return true;
  }
  void record(event e) {
    std::lock_guard lock{mutex_};
    events_.push_back(std::move(e));
    changed_.notify_all();
  }

  const std::string name_;
  std::atomic<std::int64_t> tags_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<event> events_;
  std::unique_ptr<esp::node::peers> peers_;
};

using what = recording_node::what;

} // namespace test
