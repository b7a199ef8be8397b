#include "base/bytes.hpp"

#include <doctest/doctest.h>

#include <vector>

using esp::base::reader;
using esp::base::writer;

TEST_CASE("numbers are written and read with the first byte the greatest") {
  std::vector<std::byte> out;
  writer w(out);
  w.u8(1);
  w.u16(0x0203);
  w.u32(0x04050607);
  w.u64(0x08090A0B0C0D0E0F);
  for (std::size_t i = 0; i < out.size(); ++i) {
    CHECK(out[i] == static_cast<std::byte>(i + 1));
  }
  reader r(out);
  CHECK(r.u8() == 1);
  CHECK(r.u16() == 0x0203);
  CHECK(r.u32() == 0x04050607);
  CHECK(r.u64() == 0x08090A0B0C0D0E0F);
  CHECK(r.ok());
  CHECK(r.is_done());
}

TEST_CASE("a reader that was asked for too much is bad and stays bad") {
  const std::vector<std::byte> three(3, std::byte{7});
  reader r(three);
  CHECK(r.u32() == 0);
  CHECK(!r.ok());
  CHECK(r.u8() == 0); // although there is one
  CHECK(!r.ok());
}

TEST_CASE("a length known only at the end is written over") {
  std::vector<std::byte> out;
  writer w(out);
  w.u16(0);
  w.u32(0);
  w.text("abc");
  w.patch_u16(0, 0x0102);
  w.patch_u32(2, 0x03040506);
  reader r(out);
  CHECK(r.u16() == 0x0102);
  CHECK(r.u32() == 0x03040506);
  CHECK(r.text(3) == "abc");
}

TEST_CASE("more bytes than are left are none") {
  const std::vector<std::byte> two(2, std::byte{1});
  reader r(two);
  CHECK(r.bytes(3).empty());
  CHECK(!r.ok());
  reader whole(two);
  CHECK(whole.rest().size() == 2);
  CHECK(whole.ok());
}
