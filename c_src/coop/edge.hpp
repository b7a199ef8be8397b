// The two ends of an edge, and the credit on it: how many units more its
// sender may send before the receiver has taken some. Within a home both ends
// share a few words of memory; otherwise credit travels as messages.

#pragma once

#include "node/process.hpp"

#include <boost/smart_ptr/intrusive_ref_counter.hpp>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <optional>

namespace esp::coop {

// Shared by both ends of an edge between two processes of this node. Each
// lets go of it when it ends.
struct local_link
    : boost::intrusive_ref_counter<local_link, boost::thread_safe_counter> {
  node::process_ptr sender, receiver;
  std::atomic<std::uint64_t> returned{0}; // units, written by the receiver
  std::atomic<bool> sender_waits{false};  // ... for `returned` to grow
};

// What an edge's receiver has to say to its sender: credit, the answer to an
// attach, and of nodes made late what late.hpp has.
struct returned_credit {
  enum class word : std::uint8_t { credit, attached, fresh, passed, done };
  std::uint32_t edge;
  std::uint64_t units = 0;
  word what = word::credit;
  std::uint32_t number = 0; // of attached: the one that the head gave
  esp::pid worker{};        // of fresh
};

struct out_edge {
  std::uint32_t number = 0;     // as the receiver knows it
  std::uint32_t own_number = 0; // as credit for it names it; usually the same
  std::uint32_t behind = node::no_edge; // of a late one: late.hpp
  std::uint64_t window = 0;
  // The downstream node's name in the template; a head knows it by its own.
  atom target;
  boost::intrusive_ptr<local_link> local; // if credit need not travel
  node::process_ptr here;                 // the receiver, if of this home
  esp::pid to;
  std::uint64_t sent = 0, returned = 0; // units; `returned` of remote ones

  // Units that the receiver has not given back, as far as is known here.
  std::uint64_t outstanding() const noexcept {
    return sent
           - (local ? local->returned.load(std::memory_order_acquire)
                    : returned);
  }
  bool has_credit() const noexcept { return outstanding() < window; }
  void take_back(const returned_credit& c) noexcept {
    if (c.what == returned_credit::word::attached) {
      number = c.number;
      window = c.units;
      sent = returned = 0;
    } else {
      returned = std::min(sent, returned + c.units);
    }
  }
};

struct in_edge {
  std::uint32_t number = 0;
  std::uint32_t sender_number = 0; // what credit for it names
  std::uint64_t window = 0;
  boost::intrusive_ptr<local_link> local;
  std::optional<esp::pid> from; // of a remote sender
  std::uint32_t behind = node::no_edge; // whose barriers it waits for: late.hpp
  std::uint64_t owed = 0;       // units taken and not yet given back
  bool is_held = false;         // a barrier came, and not yet on all edges
  node::message_list held;      // what came behind it
};

} // namespace esp::coop
