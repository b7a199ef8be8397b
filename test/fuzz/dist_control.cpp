// What is read as a control message can be written for every kind of peer,
// and what was written is read as the same message again.

#include "dist/control.hpp"

#include <cstdlib>

using namespace esp::dist;

namespace {

void require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

framing framing_of(std::uint64_t flags) {
  return has_dist_header(flags) ? framing::dist_header : framing::pass_through;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  if (size < 1) {
    return 0;
  }
  std::span<const std::byte> body{reinterpret_cast<const std::byte*>(data + 1),
                                  size - 1};
  auto kind = (data[0] & 1) != 0 ? framing::pass_through : framing::dist_header;
  auto c = decode_control(body, kind, {.max_depth = 100});
  if (!c) {
    require(!c.error().what.empty());
    return 0;
  }
  for (auto without :
       {std::uint64_t{0}, dflag::altact_sig, dflag::exit_payload,
        dflag::send_sender, dflag::fragments, dflag::v4_nc | dflag::alias,
        dflag::unlink_id | dflag::big_seqtrace_labels}) {
    auto flags = our_flags & ~without;
    auto out = encode_control(*c, flags);
    if (out.empty()) {
      continue;
    }
    auto again = decode_control(out, framing_of(flags));
    require(again.has_value());
    require(again->index() == c->index());
    require(encode_control(*again, flags) == out);
    std::vector<std::byte> frames;
    std::uint64_t sequence = 1;
    require(append_frame(frames, *c, flags, sequence));
    require(frames.size() > out.size());
  }
  (void)check_origin(*c, esp::atom{});
  return 0;
}
