#include "dist/frame.hpp"

#include "base/bytes.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

namespace esp::dist {

namespace {

constexpr std::uint8_t pass_through_tag = 112;
constexpr std::uint8_t version_magic = 131;
constexpr std::uint8_t dist_header_tag = 68;
constexpr std::uint8_t first_fragment_tag = 69;
constexpr std::uint8_t next_fragment_tag = 70;

constexpr std::size_t length_size = 4;

// 131, 69, SeqId:64, FragId:64, N:8. With this much of a packet its kind is
// known, and so whether what is skipped was well formed.
constexpr std::size_t longest_header = 2 + 8 + 8 + 1;

// What an empty buffer may keep for the next read.
constexpr std::size_t idle_capacity = 256 * 1'024;

} // namespace

frame_splitter::frame_splitter(std::uint64_t flags, std::size_t max_body)
    : flags_(flags), max_body_(max_body) {}

void frame_splitter::resize(std::size_t capacity) {
  auto larger = std::make_unique_for_overwrite<std::byte[]>(capacity);
  std::size_t kept = buffered();
  if (kept != 0) {
    std::memcpy(larger.get(), buffer_.get() + begin_, kept);
  }
  buffer_ = std::move(larger);
  capacity_ = capacity;
  begin_ = 0;
  end_ = kept;
}

std::span<std::byte> frame_splitter::prepare(std::size_t want) {
  std::size_t kept = buffered();
  if (kept == 0) {
    begin_ = end_ = 0;
  }
  if (capacity_ - end_ < want) {
    if (kept + want > capacity_ || capacity_ == 0) {
      // Doubling, so that a large frame is copied a constant number of times
      // on its way in, and a lie about its length costs its sender as much.
      resize(kept + std::max(want, kept));
    } else {
      std::memmove(buffer_.get(), buffer_.get() + begin_, kept);
      begin_ = 0;
      end_ = kept;
    }
  } else if (kept == 0 && capacity_ > std::max(idle_capacity, want)) {
    resize(std::max(idle_capacity, want));
  }
  return {buffer_.get() + end_, capacity_ - end_};
}

void frame_splitter::commit(std::size_t count) noexcept {
  assert(count <= capacity_ - end_);
  end_ += count;
}

void frame_splitter::feed(std::span<const std::byte> bytes) {
  if (bytes.empty()) {
    return;
  }
  auto room = prepare(bytes.size());
  std::memcpy(room.data(), bytes.data(), bytes.size());
  commit(bytes.size());
}

result<std::optional<frame>> frame_splitter::next() {
  if (is_broken_) {
    return error{errc::malformed, "bytes after a malformed frame"};
  }
  if (skip_ != 0) {
    auto skipped = std::min<std::uint64_t>(skip_, buffered());
    begin_ += static_cast<std::size_t>(skipped);
    skip_ -= skipped;
  }
  std::span<const std::byte> kept{buffer_.get() + begin_, buffered()};
  if (skip_ != 0 || kept.size() < length_size) {
    return std::optional<frame>{};
  }
  std::size_t length = base::load_be<std::uint32_t>(kept.data());
  if (length == 0) {
    begin_ += length_size;
    return std::optional{frame{}};
  }
  bool is_oversize = length > max_body_;
  auto packet = kept.subspan(length_size);
  if (packet.size()
      < (is_oversize ? std::min(length, longest_header) : length)) {
    return std::optional<frame>{};
  }
  auto parsed = parse(packet.first(std::min(length, packet.size())));
  if (!parsed) {
    return parsed.error();
  }
  begin_ += length_size;
  if (is_oversize) {
    parsed->is_oversize = true;
    parsed->body = {};
    skip_ = length;
  } else {
    begin_ += length;
  }
  return std::optional{*parsed};
}

result<frame> frame_splitter::parse(std::span<const std::byte> packet) {
  base::reader in{packet};
  frame f;
  auto first = in.u8();
  if (first == pass_through_tag) {
    if (has_dist_header(flags_)) {
      return fail("pass-through packet although a distribution header was "
                  "negotiated");
    }
    f.kind = frame_kind::signal;
    f.body = in.rest();
    return f;
  }
  auto second = in.u8();
  if (first != version_magic || !in.ok()) {
    return fail("packet begins with " + std::to_string(first));
  }
  switch (second) {
  case dist_header_tag:
    if (!has_dist_header(flags_)) {
      return fail("distribution header although none was negotiated");
    }
    f.kind = frame_kind::signal;
    break;
  case first_fragment_tag:
  case next_fragment_tag:
    if ((flags_ & dflag::fragments) == 0) {
      return fail("fragment although FRAGMENTS was not negotiated");
    }
    f.kind = second == first_fragment_tag ? frame_kind::first_fragment
                                          : frame_kind::next_fragment;
    f.sequence_id = in.u64();
    f.fragment_id = in.u64();
    break;
  default:
    return fail("packet begins with 131, " + std::to_string(second));
  }
  if (f.kind != frame_kind::next_fragment && in.u8() != 0) {
    return fail("atom cache references although no atom cache was offered");
  }
  if (!in.ok()) {
    return fail("packet shorter than its header");
  }
  f.body = in.rest();
  return f;
}

esp::error frame_splitter::fail(std::string what) {
  is_broken_ = true;
  return {errc::malformed, std::move(what)};
}

void append_tick(std::vector<std::byte>& out) {
  base::writer{out}.u32(0);
}

void append_signal_header(std::vector<std::byte>& out, std::uint64_t flags,
                          std::size_t body_size) {
  base::writer w{out};
  if (has_dist_header(flags)) {
    w.u32(static_cast<std::uint32_t>(3 + body_size));
    w.u8(version_magic);
    w.u8(dist_header_tag);
    w.u8(0);
  } else {
    w.u32(static_cast<std::uint32_t>(1 + body_size));
    w.u8(pass_through_tag);
  }
}

void append_fragment_header(std::vector<std::byte>& out, bool is_first,
                            std::uint64_t sequence_id,
                            std::uint64_t fragment_id, std::size_t body_size) {
  std::size_t header = is_first ? longest_header : longest_header - 1;
  base::writer w{out};
  w.u32(static_cast<std::uint32_t>(header + body_size));
  w.u8(version_magic);
  w.u8(is_first ? first_fragment_tag : next_fragment_tag);
  w.u64(sequence_id);
  w.u64(fragment_id);
  if (is_first) {
    w.u8(0);
  }
}

} // namespace esp::dist
