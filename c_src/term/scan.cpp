#include "term/scan.hpp"

#include "term/inflate.hpp"
#include "term/walk.hpp"

#include <limits>

namespace esp::etf {
namespace {

constexpr auto no_cap = std::numeric_limits<std::size_t>::max();

// OTP measures a term before it decodes it, and the two disagree about a
// reference without words: the measuring skips no word, the decoding one. Both
// must come to an end, so this repeats the measuring (`decoded_size` in
// erts/emulator/beam/external.c).
bool is_measurable(std::span<const std::byte> bytes) {
  base::reader in(bytes);
  std::uint64_t extra = 0; // what follows the next atom, as part of a pid...
  for (std::uint64_t terms = 1; terms > 0 && in.ok(); --terms) {
    const auto with_extra = [&](std::uint64_t n) {
      in.skip(n + extra);
      extra = 0;
    };
    switch (in.u8()) {
    case tag::integer:
      in.skip(4);
      break;
    case tag::small_integer:
      in.skip(1);
      break;
    case tag::small_big:
      in.skip(std::uint64_t{in.u8()} + 1);
      break;
    case tag::large_big:
      in.skip(std::uint64_t{in.u32()} + 1);
      break;
    case tag::atom:
    case tag::atom_utf8:
      with_extra(in.u16());
      break;
    case tag::small_atom:
    case tag::small_atom_utf8:
      with_extra(in.u8());
      break;
    case tag::atom_cache_ref:
      with_extra(1);
      break;
    case tag::atom_internal_ref2:
      with_extra(2);
      break;
    case tag::atom_internal_ref3:
      with_extra(3);
      break;
    case tag::new_pid:
    case tag::v4_port:
      extra = 12;
      ++terms;
      break;
    case tag::pid:
      extra = 9;
      ++terms;
      break;
    case tag::new_port:
      extra = 8;
      ++terms;
      break;
    case tag::port:
    case tag::reference:
      extra = 5;
      ++terms;
      break;
    case tag::newer_reference:
      extra = 4 + 4 * std::uint64_t{in.u16()};
      ++terms;
      break;
    case tag::new_reference:
      extra = 1 + 4 * std::uint64_t{in.u16()};
      ++terms;
      break;
    case tag::nil:
      break;
    case tag::list:
      terms += std::uint64_t{in.u32()} + 1;
      break;
    case tag::small_tuple:
      terms += in.u8();
      break;
    case tag::large_tuple:
      terms += in.u32();
      break;
    case tag::map:
      terms += 2 * std::uint64_t{in.u32()};
      break;
    case tag::string:
      in.skip(in.u16());
      break;
    case tag::float_text:
      in.skip(31);
      break;
    case tag::new_float:
      in.skip(8);
      break;
    case tag::binary:
      in.skip(in.u32());
      break;
    case tag::bit_binary:
      in.skip(std::uint64_t{in.u32()} + 1);
      break;
    case tag::export_fun:
      terms += 3;
      break;
    case tag::new_fun:
      in.skip(25);
      terms += 4 + std::uint64_t{in.u32()};
      break;
    default:
      return false;
    }
  }
  return in.ok();
}

} // namespace

result<scanned> scan(std::span<const std::byte> bytes, const limits& caps,
                     std::size_t cached) {
  walk w(bytes, {.how = setting::connection,
                 .max_depth = caps.max_depth,
                 .cached = cached});
  if (!w.run()) {
    return {w.failure(), "a term of the external format"};
  }
  return scanned{w.size(), w.depth(), w.needs_rewrite()};
}

bool verdict(std::span<const std::byte> external, std::size_t atom_count) {
  if (external.empty() || tag_at(external.data()) != version_magic) {
    return false;
  }
  auto bytes = external.subspan(1);
  std::vector<std::byte> inflated;
  if (bytes.size() >= 5 && tag_at(bytes.data()) == tag::compressed) {
    auto plain = inflate(bytes.subspan(1));
    if (!plain) {
      return false;
    }
    inflated = std::move(*plain);
    bytes = inflated;
  }
  walk w(
      bytes,
      {.how = setting::verdict, .max_depth = no_cap, .atom_count = atom_count});
  return w.run() && (!w.has_wordless_ref() || is_measurable(bytes));
}

std::uint64_t hash(std::span<const std::byte> accepted) {
  const head h = read(strip(accepted.data()));
  switch (h.what) {
  case form::list:
  case form::tuple:
  case form::map:
  case form::closure:
  case form::record:
    break;
  default:
    return hash_leaf(h);
  }
  walk w(accepted,
         {.how = setting::connection, .max_depth = no_cap, .hash_all = true});
  (void)w.run();
  return w.hash();
}

} // namespace esp::etf
