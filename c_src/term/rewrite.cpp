#include "term/rewrite.hpp"

#include "term/block.hpp"
#include "term/read.hpp"
#include "term/write.hpp"

#include <cstring>

namespace esp::etf {
namespace {

using bytes_t = std::span<const std::byte>;

void copy_atom(buffer& out, const atom_bytes& a, std::span<const atom> cached) {
  if (a.is_cached) {
    write_atom(out, cached[static_cast<unsigned char>(a.text[0])].name());
  } else if (!a.is_latin1) {
    write_atom(out, a.text);
  } else {
    write_atom(out, utf8_of(a));
  }
}

// How many terms follow the head as its children.
std::uint64_t children(const head& h) noexcept {
  switch (h.what) {
  case form::tuple:
  case form::record:
    return h.count;
  case form::list:
  case form::closure:
    return h.count + 1;
  case form::map:
    return 2 * h.count;
  default:
    return 0;
  }
}

void copy_head(buffer& out, const std::byte* p, const head& h,
               std::span<const atom> cached, bool narrow_ports) {
  base::writer w(out);
  const auto plain = [&] { w.bytes({p, h.next}); };
  switch (h.what) {
  case form::atom:
    copy_atom(out, h.name, cached);
    return;
  case form::binary: // 77 with whole bytes too
    write_binary(out, {h.body, static_cast<std::size_t>(h.count)});
    return;
  case form::pid:
    w.u8(tag::new_pid);
    copy_atom(out, h.name, cached);
    w.u32(static_cast<std::uint32_t>(h.id));
    w.u32(h.serial);
    w.u32(h.creation);
    return;
  case form::port: {
    const bool is_wide = tag_at(p) == tag::v4_port && !narrow_ports;
    w.u8(is_wide ? tag::v4_port : tag::new_port);
    copy_atom(out, h.name, cached);
    if (is_wide) {
      w.u64(h.id);
    } else {
      w.u32(static_cast<std::uint32_t>(h.id));
    }
    w.u32(h.creation);
    return;
  }
  case form::ref:
    w.u8(tag::newer_reference);
    w.u16(static_cast<std::uint16_t>(h.count));
    copy_atom(out, h.name, cached);
    w.u32(h.creation);
    w.bytes({h.body, static_cast<std::size_t>(4 * h.count)});
    return;
  case form::external_fun:
    w.u8(tag::export_fun);
    copy_atom(out, h.name, cached);
    copy_atom(out, h.function, cached);
    write_integer(out, h.integer);
    return;
  case form::closure:
    w.u8(tag::new_fun);
    w.bytes({h.body, 29});
    copy_atom(out, h.name, cached);
    write_integer(out, h.old_index);
    write_integer(out, h.old_uniq);
    return;
  case form::record: {
    w.u8(tag::native_record);
    w.u32(static_cast<std::uint32_t>(h.count));
    w.u8(h.is_exported ? 1 : 0);
    copy_atom(out, h.name, cached);
    copy_atom(out, h.function, cached);
    const std::byte* f = h.body;
    for (std::uint64_t i = 0; i < h.count; ++i) {
      atom_bytes field;
      f = read_atom(f, field);
      copy_atom(out, field, cached);
    }
    return;
  }
  case form::nil:
    write_nil(out); // an empty string too
    return;
  default:
    plain();
    return;
  }
}

struct open_closure {
  std::uint64_t ends_at_left; // children yet to come when it is complete
  std::size_t size_at;        // of its size field in the copy
};

buffer copy(bytes_t accepted, std::span<const atom> cached, bool narrow_ports) {
  buffer out;
  out.reserve(accepted.size());
  // A closure carries its size in bytes, so it is known only at its end.
  std::vector<open_closure> closures;
  const std::byte* p = accepted.data();
  std::uint64_t left = 1;
  while (left > 0) {
    while (!closures.empty() && closures.back().ends_at_left == left) {
      base::writer(out).patch_u32(
          closures.back().size_at,
          static_cast<std::uint32_t>(out.size() - closures.back().size_at));
      closures.pop_back();
    }
    p = strip(p);
    const head h = read(p);
    if (h.what == form::closure) {
      closures.push_back({left - 1, out.size() + 1});
    }
    copy_head(out, p, h, cached, narrow_ports);
    p = h.next;
    left += children(h);
    --left;
  }
  for (const open_closure& c : closures) {
    base::writer(out).patch_u32(
        c.size_at, static_cast<std::uint32_t>(out.size() - c.size_at));
  }
  return out;
}

} // namespace

std::vector<std::byte> normalize(bytes_t accepted,
                                 std::span<const atom> cached) {
  return copy(accepted, cached, false);
}

result<term> narrow(const term& t) {
  constexpr std::uint64_t narrow_port = (std::uint64_t{1} << 28) - 1;
  const bytes_t in = t.bytes();
  bool must_change = false;
  const std::byte* p = in.data();
  for (std::uint64_t left = 1; left > 0; --left) {
    const head h = read(p);
    if ((h.what == form::port && h.id > narrow_port)
        || (h.what == form::pid && (h.id > 0x7FFF || h.serial > 0x1FFF))
        || (h.what == form::ref && h.count > 3)) {
      return {errc::badarg, "an identifier too wide for OTP 23"};
    }
    must_change = must_change || tag_at(p) == tag::v4_port;
    left += children(h);
    p = h.next;
  }
  if (!must_change) {
    return t;
  }
  return term::copy_of(copy(in, {}, true));
}

} // namespace esp::etf
