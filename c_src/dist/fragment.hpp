// Large signals travel in pieces of 64 KiB, so that they do not block what
// comes behind them. The joiner puts one connection's pieces together again,
// several sequences at a time, within limits; the cutter makes them.

#pragma once

#include "esp/error.hpp"
#include "esp/term.hpp"

#include "dist/frame.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace esp::dist {

// OTP cuts what follows the header, control term and payload, every 64 KiB.
inline constexpr std::size_t fragment_size = 65'536;

struct fragment_limits {
  std::size_t max_signal = 128u << 20; // one signal, joined
  std::size_t max_total = 128u << 20;  // all incomplete sequences together
  std::size_t max_sequences = 1'024;   // incomplete at once
  // Sequences over one of the caps above are remembered, without their bytes,
  // until their last fragment has come; more than this many at once closes
  // the connection.
  std::size_t max_swallowed = 65'536;
};

class fragment_joiner {
public:
  explicit fragment_joiner(fragment_limits limits = {});

  enum class outcome {
    incomplete, // kept; more is to come
    complete,   // body() is the whole signal
    dropped,    // this frame put its sequence over a cap: count one signal
    swallowed,  // belongs to a sequence dropped before
  };

  // Takes a first_fragment or next_fragment frame. Errors close the
  // connection: fragments out of order, a sequence id in use or unknown, a
  // fragment id of 0 (`malformed`), too many swallowed (`system_limit`).
  result<outcome> add(const frame& f);

  // After `complete`, until the next add(): decode_control()'s argument.
  std::span<const std::byte> body() const noexcept { return body_; }
  // Gives the body's memory back early; large signals should not linger.
  void forget_body() noexcept;

  std::size_t total() const noexcept { return total_; } // bytes kept
  std::size_t sequences() const noexcept { return open_; }

private:
  struct sequence {
    std::uint64_t next_id = 0; // of the fragment that must come next
    bool is_swallowed = false;
    std::vector<std::byte> bytes;
  };
  using table = std::unordered_map<std::uint64_t, sequence>;

  result<outcome> keep(table::iterator at, const frame& f);
  result<outcome> drop(table::iterator at);

  fragment_limits limits_;
  table table_;
  std::size_t open_ = 0;  // of the table, not swallowed
  std::size_t total_ = 0; // bytes in the table
  std::vector<std::byte> body_;
};

// The `count` bytes from `from` on of head and payload, as if they were one.
void append_cut(std::vector<std::byte>& out, std::span<const std::byte> head,
                std::span<const std::byte> payload, std::size_t from,
                std::size_t count);

// One outgoing signal, cut as it is written, so that a writer can let ticks
// and small signals pass between the fragments. Keeps the payload alive.
class fragment_cutter {
public:
  // `head` is the control term, `payload` what follows it, if anything.
  fragment_cutter(std::uint64_t sequence_id, std::vector<std::byte> head,
                  term payload, bool has_payload);

  // Appends one frame, header included. False when it was the last.
  bool append_next(std::vector<std::byte>& out);

private:
  std::uint64_t sequence_id_;
  std::uint64_t fragment_id_; // of the next
  bool is_first_ = true;
  std::vector<std::byte> head_;
  term payload_;
  std::size_t size_;     // of head and payload
  std::size_t done_ = 0; // of those, written
};

} // namespace esp::dist
