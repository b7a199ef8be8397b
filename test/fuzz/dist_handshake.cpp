// The handshake as a stranger speaks it: any bytes, in any pieces, with any
// answers of the owner. The first byte of the input chooses role and answers.

#include "dist/handshake.hpp"

#include <algorithm>
#include <cstdlib>

using namespace esp::dist;

namespace {

void require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

handshake_options options(unsigned choice) {
  handshake_options o;
  o.name = "us@127.0.0.1";
  o.flags = (choice & 32) != 0 ? our_flags | dflag::name_me : our_flags;
  o.creation = 5;
  o.challenge = 0x12345678;
  o.length_size = (choice & 2) != 0 ? 4 : 2;
  o.cookie = [](std::string_view) { return std::string{"cookie"}; };
  return o;
}

void answer(handshake& h, unsigned choice) {
  if (h.current() == handshake::state::asking) {
    require(!h.peer_name().empty());
    if (h.wants_name() && (choice & 4) != 0) {
      h.answer_named("x@127.0.0.1", 7);
    } else {
      h.answer(static_cast<status>((choice >> 2) % 5));
    }
  } else if (h.current() == handshake::state::alive) {
    h.replace((choice & 4) != 0);
  }
}

// The digest that nobody can guess, at the place where it belongs.
std::vector<std::byte> proof(unsigned choice) {
  auto d = challenge_digest("cookie", 0x12345678);
  bool is_acceptor = (choice & 1) != 0;
  std::vector<std::byte> body;
  body.push_back(static_cast<std::byte>(is_acceptor ? 'r' : 'a'));
  body.resize(is_acceptor ? 5 : 1);
  body.insert(body.end(), d.begin(), d.end());
  std::vector<std::byte> packet((choice & 2) != 0 ? 4 : 2);
  packet.back() = static_cast<std::byte>(body.size());
  packet.insert(packet.end(), body.begin(), body.end());
  return packet;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  if (size < 2) {
    return 0;
  }
  unsigned choice = data[0];
  std::size_t piece = data[1] == 0 ? size : data[1];
  std::span<const std::byte> left{reinterpret_cast<const std::byte*>(data + 2),
                                  size - 2};
  auto h = (choice & 1) != 0
               ? handshake::accept(options(choice))
               : handshake::initiate(options(choice), "them@127.0.0.1");
  std::size_t sent = h.take_output().size();
  while (!left.empty() && h.current() != handshake::state::failed) {
    auto n = std::min(piece, left.size());
    h.feed(left.first(n));
    left = left.subspan(n);
    answer(h, choice);
    sent += h.take_output().size();
  }
  // Nobody gets through without the digest, which no input here holds by
  // chance more often than a corpus can learn; with it the rest is frames.
  if ((choice & 64) != 0 && h.current() == handshake::state::reading) {
    h.feed(proof(choice));
  }
  if (h.current() == handshake::state::connected) {
    require((h.flags() & ~our_flags) == 0);
    require(!h.peer_name().empty());
  }
  if (h.current() == handshake::state::failed) {
    require(!h.error().what.empty());
    require(h.take_leftover().empty());
  }
  require(sent < 4'096); // what one conversation can make us say
  return 0;
}
