// Large signals travel in pieces of 64 KiB, so that they do not block what
// comes behind them. The joiner puts one connection's pieces together again,
// several sequences at a time, within limits; the cutter makes them.

#pragma once

#include "esp/error.hpp"
#include "esp/term.hpp"

#include "dist/frame.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
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

// Where one outgoing signal is cut. Head and payload stay with the caller and
// must be the same at each call; empty spans stand for nothing.
class fragment_cut {
public:
  // `size` is that of head and payload together.
  fragment_cut(std::uint64_t sequence_id, std::size_t size) noexcept;

  // Appends one frame, header included. False when it was the last.
  bool append_next(std::vector<std::byte>& out, std::span<const std::byte> head,
                   std::span<const std::byte> payload);

private:
  std::uint64_t sequence_id_;
  std::uint64_t fragment_id_; // of the next
  bool is_first_ = true;
  std::size_t size_;
  std::size_t done_ = 0; // of size_, written
};

// One outgoing signal that is cut as it is written, so that a writer can let
// ticks and small signals pass between the fragments. Keeps the payload alive.
class fragment_cutter {
public:
  // `head` is the control term, `payload` what follows it, if anything.
  fragment_cutter(std::uint64_t sequence_id, std::vector<std::byte> head,
                  std::optional<term> payload);

  // Appends one frame, header included. False when it was the last.
  bool append_next(std::vector<std::byte>& out);

private:
  std::vector<std::byte> head_;
  std::optional<term> payload_;
  fragment_cut cut_;
};

} // namespace esp::dist
