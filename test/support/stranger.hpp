// The other end of a distribution connection, as a script.

#pragma once

#include "dist/frame.hpp"
#include "dist/handshake.hpp"
#include "support/raw_socket.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace test {

class stranger : public raw_socket {
public:
  explicit stranger(std::uint16_t port) : raw_socket(port) {}
  explicit stranger(raw_socket s) : raw_socket(std::move(s)) {}

  // Goes through the handshake as the dialling node; true if it ends well.
  bool shake_hands(const std::string& name, const std::string& us,
                   const std::string& cookie,
                   std::uint64_t flags = esp::dist::our_flags) {
    esp::dist::handshake_options o;
    o.name = name;
    o.flags = flags;
    o.creation = 77;
    o.challenge = 4711;
    o.cookie = [cookie](std::string_view) { return cookie; };
    auto h = esp::dist::handshake::initiate(std::move(o), us);
    return finish(h);
  }
  bool finish(esp::dist::handshake& h) {
    using state = esp::dist::handshake::state;
    for (;;) {
      if (h.current() == state::alive) {
        h.replace(true);
      }
      if (h.current() == state::asking) {
        h.answer(esp::dist::status::ok);
      }
      say(h.take_output());
      if (h.current() == state::connected) {
        in_ = h.take_leftover();
        return true;
      }
      auto some = hear();
      if (h.current() == state::failed || !some || some->empty()) {
        return false;
      }
      h.feed(*some);
    }
  }

  // At least so many bytes, or less at the end.
  bytes hear_bytes(std::size_t count) {
    bytes all = std::exchange(in_, {});
    while (all.size() < count) {
      auto some = hear();
      if (!some || some->empty()) {
        break;
      }
      all.insert(all.end(), some->begin(), some->end());
    }
    return all;
  }

private:
  bytes in_; // what the handshake read too much
};

} // namespace test
