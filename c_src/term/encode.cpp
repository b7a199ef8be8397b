// The writing half of codec.hpp. Numbers are libei's; the rest is a tag, a
// size and bytes.

#include "esp/codec.hpp"

#include "base/bytes.hpp"
#include "term/block.hpp"
#include "term/tags.hpp"

#include <ei.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace esp {

namespace tag = etf::tag;

namespace {

constexpr std::size_t longest_number = 16;

std::uint32_t narrow_count(std::size_t n) {
  if (n > std::numeric_limits<std::uint32_t>::max()) {
    throw std::length_error("more than a term can hold");
  }
  return static_cast<std::uint32_t>(n);
}

std::size_t header(std::byte* p, std::uint8_t t, std::size_t n) {
  p[0] = std::byte{t};
  base::store_be(p + 1, narrow_count(n));
  return 5;
}

template <class Int>
std::byte* number(std::byte* p, Int v) {
  base::store_be(p, v);
  return p + sizeof v;
}

} // namespace

encoder::encoder() noexcept : data_(near_), capacity_(sizeof near_) {}

encoder::~encoder() {
  if (block_ != nullptr) {
    detail::release(block_);
  }
}

void encoder::grow(std::size_t n) {
  const std::size_t wanted = std::max(size_ + n, 2 * capacity_);
  detail::block* bigger = detail::make_block(std::max(
      size_ + n, std::min<std::size_t>(
                     wanted, std::numeric_limits<std::uint32_t>::max())));
  std::memcpy(bigger->data(), data_, size_);
  if (block_ != nullptr) {
    detail::release(block_);
  }
  block_ = bigger;
  data_ = bigger->data();
  capacity_ = bigger->size;
}

void encoder::put(const void* bytes, std::size_t n) {
  if (n > 0) {
    std::memcpy(room(n), bytes, n);
    size_ += n;
  }
}

void encoder::integer(std::int64_t v) {
  // libei writes a bignum from 28 bits on, where a node does from 33 on.
  if (v >= std::numeric_limits<std::int32_t>::min()
      && v <= std::numeric_limits<std::int32_t>::max()) {
    std::byte* p = room(5);
    if (v >= 0 && v <= 255) {
      p[0] = std::byte{tag::small_integer};
      p[1] = static_cast<std::byte>(v);
      size_ += 2;
    } else {
      p[0] = std::byte{tag::integer};
      base::store_be(p + 1, static_cast<std::uint32_t>(v));
      size_ += 5;
    }
    return;
  }
  int n = 0;
  ei_encode_longlong(reinterpret_cast<char*>(room(longest_number)), &n, v);
  size_ += static_cast<std::size_t>(n);
}

void encoder::integer_unsigned(std::uint64_t v) {
  if (v
      <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    integer(static_cast<std::int64_t>(v));
    return;
  }
  int n = 0;
  ei_encode_ulonglong(reinterpret_cast<char*>(room(longest_number)), &n, v);
  size_ += static_cast<std::size_t>(n);
}

void encoder::integer_big(const big_int& v) {
  if (const auto small = v.to_int64()) {
    integer(*small);
    return;
  }
  const auto magnitude = v.magnitude();
  std::byte* p = room(6);
  if (magnitude.size() <= 255) {
    p[0] = std::byte{tag::small_big};
    p[1] = static_cast<std::byte>(magnitude.size());
    size_ += 2;
  } else {
    size_ += header(p, tag::large_big, magnitude.size());
  }
  data_[size_++] =
      std::byte{v.is_negative() ? std::uint8_t{1} : std::uint8_t{0}};
  put(magnitude.data(), magnitude.size());
}

void encoder::floating(double v) {
  if (!std::isfinite(v)) {
    throw std::range_error("Erlang has no float for an infinity or a NaN");
  }
  int n = 0;
  ei_encode_double(reinterpret_cast<char*>(room(longest_number)), &n, v);
  size_ += static_cast<std::size_t>(n);
}

void encoder::atom(esp::atom a) {
  atom(a.name());
}

void encoder::atom(std::string_view utf8) {
  std::byte* p = room(3);
  if (utf8.size() <= 255) {
    p[0] = std::byte{tag::small_atom_utf8};
    p[1] = static_cast<std::byte>(utf8.size());
    size_ += 2;
  } else {
    p[0] = std::byte{tag::atom_utf8};
    base::store_be(p + 1, static_cast<std::uint16_t>(utf8.size()));
    size_ += 3;
  }
  put(utf8.data(), utf8.size());
}

void encoder::binary(std::span<const std::byte> bytes) {
  size_ += header(room(5), tag::binary, bytes.size());
  put(bytes.data(), bytes.size());
}

void encoder::binary(std::string_view bytes) {
  binary(base::as_bytes(bytes));
}

void encoder::string(std::string_view latin1) {
  if (latin1.empty()) {
    nil();
  } else if (latin1.size() <= 0xFFFF) {
    std::byte* p = room(3);
    p[0] = std::byte{tag::string};
    base::store_be(p + 1, static_cast<std::uint16_t>(latin1.size()));
    size_ += 3;
    put(latin1.data(), latin1.size());
  } else {
    list(latin1.size());
    for (const char c : latin1) {
      integer(static_cast<unsigned char>(c));
    }
    nil();
  }
}

void encoder::nil() {
  *room(1) = std::byte{tag::nil};
  ++size_;
}

void encoder::tuple(std::size_t elements) {
  std::byte* p = room(5);
  if (elements <= 255) {
    p[0] = std::byte{tag::small_tuple};
    p[1] = static_cast<std::byte>(elements);
    size_ += 2;
  } else {
    size_ += header(p, tag::large_tuple, elements);
  }
}

void encoder::list(std::size_t elements) {
  size_ += header(room(5), tag::list, elements);
}

void encoder::map(std::size_t pairs) {
  size_ += header(room(5), tag::map, pairs);
}

void encoder::pid(const esp::pid& v) {
  *room(1) = std::byte{tag::new_pid};
  ++size_;
  atom(v.node);
  std::byte* p = room(12);
  number(number(number(p, v.id), v.serial), v.creation);
  size_ += 12;
}

void encoder::ref(const esp::ref& v) {
  const std::uint8_t words = std::max<std::uint8_t>(v.count, 1);
  std::byte* p = room(3);
  p[0] = std::byte{tag::newer_reference};
  base::store_be(p + 1, std::uint16_t{words});
  size_ += 3;
  atom(v.node);
  p = number(room(4 + 4 * std::size_t{words}), v.creation);
  for (std::size_t i = 0; i < words; ++i) {
    p = number(p, v.words[i]);
  }
  size_ += 4 + 4 * std::size_t{words};
}

void encoder::port(const esp::port& v) {
  const bool is_wide = v.id >= std::uint64_t{1} << 28; // too wide for OTP 23
  *room(1) = std::byte{is_wide ? tag::v4_port : tag::new_port};
  ++size_;
  atom(v.node);
  std::byte* p = room(12);
  p = is_wide ? number(p, v.id) : number(p, static_cast<std::uint32_t>(v.id));
  size_ = static_cast<std::size_t>(number(p, v.creation) - data_);
}

void encoder::value(const term& t) {
  const auto b = t.bytes();
  put(b.data(), b.size());
}

term encoder::finish() {
  // A block much larger than its term is not worth keeping.
  if (block_ == nullptr || size_ < capacity_ - capacity_ / 4) {
    return term::copy_of({data_, size_});
  }
  detail::block* b = block_;
  block_ = nullptr;
  return term::adopt(b, data_, static_cast<std::uint32_t>(size_));
}

} // namespace esp
