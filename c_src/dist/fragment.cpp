#include "dist/fragment.hpp"

#include "base/bytes.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace esp::dist {

namespace {

using bytes = std::span<const std::byte>;

std::string sequence_text(const frame& f) {
  return "sequence " + std::to_string(f.sequence_id) + ", fragment "
         + std::to_string(f.fragment_id);
}

} // namespace

fragment_joiner::fragment_joiner(fragment_limits limits) : limits_(limits) {}

result<fragment_joiner::outcome> fragment_joiner::add(const frame& f) {
  forget_body();
  if (f.fragment_id == 0) {
    return error{errc::malformed, sequence_text(f) + ": ids end at 1"};
  }
  auto at = table_.find(f.sequence_id);
  if (f.kind == frame_kind::first_fragment) {
    if (at != table_.end()) {
      return error{errc::malformed, sequence_text(f) + ": id in use"};
    }
    at = table_.try_emplace(f.sequence_id).first;
    at->second.next_id = f.fragment_id;
    ++open_;
    if (open_ > limits_.max_sequences) {
      return drop(at);
    }
  } else if (at == table_.end() || at->second.next_id != f.fragment_id) {
    return error{errc::malformed, sequence_text(f) + ": out of order"};
  }
  if (at->second.is_swallowed) {
    at->second.next_id = f.fragment_id - 1;
    if (f.fragment_id == 1) {
      table_.erase(at);
    }
    return outcome::swallowed;
  }
  auto size = at->second.bytes.size() + f.body.size();
  if (f.is_oversize || size > limits_.max_signal
      || total_ + f.body.size() > limits_.max_total) {
    return drop(at);
  }
  return keep(at, f);
}

result<fragment_joiner::outcome> fragment_joiner::keep(table::iterator at,
                                                       const frame& f) {
  auto& bytes = at->second.bytes;
  base::writer{bytes}.bytes(f.body);
  total_ += f.body.size();
  at->second.next_id = f.fragment_id - 1;
  if (f.fragment_id > 1) {
    return outcome::incomplete;
  }
  total_ -= bytes.size();
  --open_;
  body_ = std::move(bytes);
  table_.erase(at);
  return outcome::complete;
}

// The rest of the sequence will still come and must not be taken for an
// error, so its place in the table stays, without its bytes.
result<fragment_joiner::outcome> fragment_joiner::drop(table::iterator at) {
  total_ -= at->second.bytes.size();
  --open_;
  if (at->second.next_id == 1) {
    table_.erase(at);
    return outcome::dropped;
  }
  at->second.is_swallowed = true;
  at->second.bytes = {};
  --at->second.next_id;
  if (table_.size() - open_ > limits_.max_swallowed) {
    return error{errc::system_limit, "too many dropped sequences under way"};
  }
  return outcome::dropped;
}

void fragment_joiner::forget_body() noexcept {
  body_ = {};
}

fragment_cut::fragment_cut(std::uint64_t sequence_id, std::size_t size) noexcept
    : sequence_id_(sequence_id),
      fragment_id_(
          std::max<std::size_t>(1, (size + fragment_size - 1) / fragment_size)),
      size_(size) {}

bool fragment_cut::append_next(std::vector<std::byte>& out, bytes head,
                               bytes payload) {
  if (fragment_id_ == 0) {
    return false;
  }
  auto count = std::min(fragment_size, size_ - done_);
  append_fragment_header(out, is_first_, sequence_id_, fragment_id_, count);
  base::writer w{out};
  auto from_head =
      done_ < head.size() ? std::min(count, head.size() - done_) : 0;
  if (from_head != 0) {
    w.bytes(head.subspan(done_, from_head));
  }
  if (count > from_head) {
    w.bytes(
        payload.subspan(done_ + from_head - head.size(), count - from_head));
  }
  done_ += count;
  is_first_ = false;
  return --fragment_id_ != 0;
}

fragment_cutter::fragment_cutter(std::uint64_t sequence_id,
                                 std::vector<std::byte> head,
                                 std::optional<term> payload)
    : head_(std::move(head)),
      payload_(std::move(payload)),
      cut_(sequence_id,
           head_.size() + (payload_ ? payload_->bytes().size() : 0)) {}

bool fragment_cutter::append_next(std::vector<std::byte>& out) {
  return cut_.append_next(out, head_, payload_ ? payload_->bytes() : bytes{});
}

} // namespace esp::dist
