// A byte stream cut into frames gives the same frames however it arrives.

#include "dist/frame.hpp"

#include <algorithm>
#include <cstdlib>

using namespace esp::dist;

namespace {

constexpr std::size_t cap = 200;

struct seen {
  frame_kind kind;
  bool is_oversize;
  std::uint64_t sequence_id, fragment_id;
  std::vector<std::byte> body;
  friend bool operator==(const seen&, const seen&) = default;
};

void require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

std::vector<seen> split(std::uint64_t flags, std::span<const std::byte> left,
                        std::size_t piece, bool& is_broken) {
  frame_splitter s{flags, cap};
  std::vector<seen> all;
  is_broken = false;
  while (!left.empty() && !is_broken) {
    auto n = std::min(piece, left.size());
    s.feed(left.first(n));
    left = left.subspan(n);
    for (;;) {
      auto f = s.next();
      if (!f) {
        is_broken = true;
        break;
      }
      if (!*f) {
        break;
      }
      require((*f)->body.size() <= cap);
      require(!(*f)->is_oversize || (*f)->body.empty());
      all.push_back({(*f)->kind,
                     (*f)->is_oversize,
                     (*f)->sequence_id,
                     (*f)->fragment_id,
                     {(*f)->body.begin(), (*f)->body.end()}});
    }
    require(is_broken || s.buffered() <= cap + 4);
  }
  return all;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  if (size < 2) {
    return 0;
  }
  auto flags = (data[0] & 1) != 0 ? our_flags : our_flags & ~dflag::fragments;
  std::size_t piece = 1 + data[1] % 64U;
  std::span<const std::byte> stream{
      reinterpret_cast<const std::byte*>(data + 2), size - 2};
  bool one_broken = false, other_broken = false;
  auto one = split(flags, stream, piece, one_broken);
  auto other = split(flags, stream, std::max<std::size_t>(1, stream.size()),
                     other_broken);
  require(one == other);
  require(one_broken == other_broken);
  return 0;
}
