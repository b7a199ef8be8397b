// Frames after the handshake: `Len:32, Packet` (protocol.md, section 4). The
// splitter cuts a byte stream into them, with a cap before anything is
// allocated; the append functions write their headers.

#pragma once

#include "esp/error.hpp"

#include "dist/flags.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace esp::dist {

enum class frame_kind : std::uint8_t {
  tick,           // Len = 0: answer it
  signal,         // a whole signal
  first_fragment, // 131,69
  next_fragment,  // 131,70
};

struct frame {
  frame_kind kind = frame_kind::tick;
  // Over the cap: its body was skipped, not kept, and is empty here. A signal
  // is then to be counted as dropped; a fragment goes to fragment_joiner as it
  // is, which drops its whole sequence.
  bool is_oversize = false;
  std::uint64_t sequence_id = 0; // of fragments
  std::uint64_t fragment_id = 0; // of fragments; counts down to 1
  // What follows the header. Of a signal: decode_control()'s argument. Valid
  // until the splitter is touched again.
  std::span<const std::byte> body;
};

// Cuts one connection's input into frames. A result that is an error (always
// `malformed`) means that the connection is to be closed: the stream has lost
// its beat, and every later call says the same.
class frame_splitter {
public:
  // `flags` as negotiated: they decide which packet kinds are legal. A packet
  // of more than `max_body` bytes is skipped as it comes, without buffering.
  explicit frame_splitter(std::uint64_t flags,
                          std::size_t max_body = (128u << 20) + 4'096);

  // Room for at least `want` bytes (more if a large frame is under way), to
  // read from the socket straight into; then commit() what came. Makes
  // earlier bodies invalid. At most about what has arrived so far is reserved
  // for a frame, whatever its length claims.
  std::span<std::byte> prepare(std::size_t want = 16'384);
  void commit(std::size_t count) noexcept;
  // The same for bytes that are somewhere already.
  void feed(std::span<const std::byte> bytes);

  // The next whole frame, or none until more bytes have come.
  result<std::optional<frame>> next();

  // Bytes kept; for counters and tests.
  std::size_t buffered() const noexcept { return end_ - begin_; }

private:
  result<frame> parse(std::span<const std::byte> packet);
  esp::error fail(std::string what);

  std::uint64_t flags_;
  std::size_t max_body_;
  void resize(std::size_t capacity);

  std::unique_ptr<std::byte[]> buffer_;
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0, end_ = 0; // what is not yet consumed
  std::uint64_t skip_ = 0;          // of an oversize body, still to come
  bool is_broken_ = false;
};

// Four zero bytes.
void append_tick(std::vector<std::byte>& out);

// The header of one frame whose body of `body_size` bytes the caller appends:
// of a whole signal (112 or 131,68 as `flags` say), or of a fragment. An
// empty atom cache section is always legal.
void append_signal_header(std::vector<std::byte>& out, std::uint64_t flags,
                          std::size_t body_size);
void append_fragment_header(std::vector<std::byte>& out, bool is_first,
                            std::uint64_t sequence_id,
                            std::uint64_t fragment_id, std::size_t body_size);

} // namespace esp::dist
