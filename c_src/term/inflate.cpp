#include "term/inflate.hpp"

#include "base/bytes.hpp"

#include <zlib.h>

#include <algorithm>

namespace esp::etf {

result<std::vector<std::byte>> inflate(std::span<const std::byte> after_tag,
                                       std::size_t cap) {
  if (after_tag.size() < 4) {
    return {errc::truncated, "a compressed term without its size"};
  }
  const std::size_t claimed = base::load_be<std::uint32_t>(after_tag.data());
  if (claimed > cap) {
    return {errc::too_large, "a compressed term over the cap"};
  }
  z_stream z{};
  z.next_in = reinterpret_cast<Bytef*>(
      const_cast<std::byte*>(after_tag.data() + 4)); // zlib only reads it
  z.avail_in = static_cast<uInt>(std::min<std::size_t>(
      after_tag.size() - 4, std::numeric_limits<uInt>::max()));
  if (inflateInit(&z) != Z_OK) {
    return {errc::system_limit, "zlib has no memory"};
  }
  // Grows as the stream delivers: a claim alone allocates next to nothing.
  std::vector<std::byte> out;
  int code = Z_OK;
  while (code == Z_OK && out.size() < claimed) {
    const std::size_t piece = std::min(
        claimed - out.size(), std::max<std::size_t>(out.size(), 16 * 1024));
    const std::size_t had = out.size();
    out.resize(had + piece);
    z.next_out = reinterpret_cast<Bytef*>(out.data() + had);
    z.avail_out = static_cast<uInt>(piece);
    code = ::inflate(&z, Z_NO_FLUSH);
    out.resize(had + piece - z.avail_out);
  }
  inflateEnd(&z);
  if (code != Z_STREAM_END || out.size() != claimed) {
    return {errc::malformed, "a compressed term of another size than it says"};
  }
  return out;
}

} // namespace esp::etf
