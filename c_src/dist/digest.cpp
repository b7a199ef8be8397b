#include "dist/digest.hpp"

// Boost's copy of a public domain MD5: libcrypto would be one more library at
// run time for 16 bytes a connection. It reads words through a cast pointer,
// which is why nothing else is compiled together with it.
#include <boost/uuid/detail/md5.hpp>

#include <string>

namespace esp::dist {

namespace {

// Boost gives the digest as four numbers whose most significant byte is the
// first one of MD5 (1.71 to 1.85), or as the sixteen bytes (1.86 and later).
template <class Word, std::size_t N>
digest to_bytes(const Word (&words)[N]) {
  digest out;
  for (std::size_t i = 0; i < out.size(); ++i) {
    auto shift = 8 * (sizeof(Word) - 1 - i % sizeof(Word));
    out[i] = static_cast<std::byte>(words[i / sizeof(Word)] >> shift);
  }
  return out;
}

} // namespace

digest challenge_digest(std::string_view cookie, std::uint32_t challenge) {
  // In one piece, at the start of an allocation: MD5 wants aligned words.
  std::string text{cookie};
  text += std::to_string(challenge);
  text.reserve(64);

  boost::uuids::detail::md5 md5;
  md5.process_bytes(text.data(), text.size());
  boost::uuids::detail::md5::digest_type words;
  md5.get_digest(words);
  return to_bytes(words);
}

bool is_same_digest(std::span<const std::byte> a,
                    std::span<const std::byte> b) noexcept {
  if (a.size() != b.size()) {
    return false;
  }
  volatile unsigned char difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference = difference | std::to_integer<unsigned char>(a[i] ^ b[i]);
  }
  return difference == 0;
}

} // namespace esp::dist
