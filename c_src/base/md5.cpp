#include "base/md5.hpp"

// Boost's copy of a public domain MD5: libcrypto would be one more library at
// run time. It reads words through a cast pointer, which is why nothing else is
// compiled together with it.
#include <boost/uuid/detail/md5.hpp>

#include <algorithm>
#include <cstring>

namespace esp::base {

namespace {

// Boost gives the digest as four numbers whose most significant byte is the
// first one of MD5 (1.71 to 1.85), or as the sixteen bytes (1.86 and later).
template <class Word, std::size_t N>
md5_digest to_bytes(const Word (&words)[N]) {
  md5_digest out;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto shift = 8 * (sizeof(Word) - 1 - i % sizeof(Word));
    out[i] = static_cast<std::byte>(words[i / sizeof(Word)] >> shift);
  }
  return out;
}

} // namespace

// It wants aligned words.
md5_digest md5(std::span<const char> bytes) {
  boost::uuids::detail::md5 md5;
  for (std::size_t at = 0; at < bytes.size();) {
    alignas(std::max_align_t) char block[4096];
    const std::size_t n = std::min(sizeof block, bytes.size() - at);
    std::memcpy(block, bytes.data() + at, n);
    md5.process_bytes(block, n);
    at += n;
  }
  boost::uuids::detail::md5::digest_type words;
  md5.get_digest(words);
  return to_bytes(words);
}

} // namespace esp::base
