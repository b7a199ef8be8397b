#include "term/write.hpp"

#include "base/bytes.hpp"
#include "term/tags.hpp"

#include <ei.h>

#include <limits>
#include <stdexcept>

namespace esp::etf {
namespace {

// libei writes at an index into a buffer of the caller's: room for the longest
// number it writes, cut to what it wrote.
template <class Encode>
void with_ei(buffer& out, std::size_t most, Encode encode) {
  const std::size_t had = out.size();
  out.resize(had + most);
  int index = 0;
  encode(reinterpret_cast<char*>(out.data() + had), &index);
  out.resize(had + static_cast<std::size_t>(index));
}

std::uint32_t narrow_count(std::size_t n) {
  if (n > std::numeric_limits<std::uint32_t>::max()) {
    throw std::length_error("more than a term can hold");
  }
  return static_cast<std::uint32_t>(n);
}

} // namespace

void write_integer(buffer& out, std::int64_t v) {
  base::writer w(out);
  // libei writes a bignum from 28 bits on, where a node does from 33 on.
  if (v >= 0 && v <= 255) {
    w.u8(tag::small_integer);
    w.u8(static_cast<std::uint8_t>(v));
  } else if (v >= std::numeric_limits<std::int32_t>::min()
             && v <= std::numeric_limits<std::int32_t>::max()) {
    w.u8(tag::integer);
    w.u32(static_cast<std::uint32_t>(v));
  } else {
    with_ei(out, 12, [v](char* p, int* i) { ei_encode_longlong(p, i, v); });
  }
}

void write_unsigned(buffer& out, std::uint64_t v) {
  if (v
      <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    write_integer(out, static_cast<std::int64_t>(v));
  } else {
    with_ei(out, 12, [v](char* p, int* i) { ei_encode_ulonglong(p, i, v); });
  }
}

void write_atom(buffer& out, std::string_view utf8) {
  base::writer w(out);
  if (utf8.size() <= 255) {
    w.u8(tag::small_atom_utf8);
    w.u8(static_cast<std::uint8_t>(utf8.size()));
  } else {
    w.u8(tag::atom_utf8);
    w.u16(static_cast<std::uint16_t>(utf8.size()));
  }
  w.text(utf8);
}

void write_binary(buffer& out, std::span<const std::byte> bytes) {
  base::writer w(out);
  w.u8(tag::binary);
  w.u32(narrow_count(bytes.size()));
  w.bytes(bytes);
}

void write_nil(buffer& out) {
  out.push_back(std::byte{tag::nil});
}

void write_tuple_header(buffer& out, std::size_t arity) {
  base::writer w(out);
  if (arity <= 255) {
    w.u8(tag::small_tuple);
    w.u8(static_cast<std::uint8_t>(arity));
  } else {
    w.u8(tag::large_tuple);
    w.u32(narrow_count(arity));
  }
}

void write_pid(buffer& out, const pid& p) {
  base::writer w(out);
  w.u8(tag::new_pid);
  write_atom(out, p.node.name());
  w.u32(p.id);
  w.u32(p.serial);
  w.u32(p.creation);
}

void write_ref(buffer& out, const ref& r) {
  base::writer w(out);
  const std::uint8_t words = r.count == 0 ? 1 : r.count;
  w.u8(tag::newer_reference);
  w.u16(words);
  write_atom(out, r.node.name());
  w.u32(r.creation);
  for (std::size_t i = 0; i < words; ++i) {
    w.u32(r.words[i]);
  }
}

} // namespace esp::etf
