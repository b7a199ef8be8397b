// The walk behind scan(), verdict() and hash(). See scan.hpp for what the
// settings mean.

#pragma once

#include "term/read.hpp"
#include "term/scan.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace esp::etf {

enum class setting : std::uint8_t { verdict, connection };

class walk {
public:
  struct options {
    setting how = setting::connection;
    std::size_t max_depth = 0;
    std::size_t cached = 0;     // connection: atoms of the frame's header
    std::size_t atom_count = 0; // verdict: atoms of the node
    bool hash_all = false;      // else only keys of maps are hashed
  };

  walk(std::span<const std::byte> bytes, const options& o)
      : begin_(bytes.data()),
        p_(bytes.data()),
        end_(bytes.data() + bytes.size()),
        o_(o) {}

  // False: see failure(). Call it once.
  bool run();

  errc failure() const noexcept { return failure_; }
  std::size_t size() const noexcept {
    return static_cast<std::size_t>(p_ - begin_);
  }
  std::size_t depth() const noexcept { return deepest_; }
  bool needs_rewrite() const noexcept { return needs_rewrite_; }
  bool has_wordless_ref() const noexcept { return has_wordless_ref_; }
  std::uint64_t hash() const noexcept { return value_; }

private:
  enum class inside : std::uint8_t { list, tail, tuple, map, closure, record };

  struct key {
    std::uint64_t hash;
    const std::byte* at;
  };
  // An open container: `left` children to come (of a map: keys and values).
  struct frame {
    inside what;
    bool hashing;      // its own hash is wanted
    bool hashes_child; // the child being read is hashed
    std::uint64_t left;
    std::uint64_t hash;
    std::uint64_t key_hash;
    const std::byte* child;
    std::size_t first_key; // in keys_
  };

  bool fail(errc code) noexcept {
    failure_ = code;
    return false;
  }
  std::size_t left() const noexcept {
    return static_cast<std::size_t>(end_ - p_);
  }
  bool has(std::uint64_t n) noexcept {
    return n <= left() || fail(errc::truncated);
  }
  bool skip_bytes(std::uint64_t n) noexcept {
    if (!has(n)) {
      return false;
    }
    p_ += n;
    return true;
  }

  bool is_verdict() const noexcept { return o_.how == setting::verdict; }
  bool hashes_now() const noexcept {
    return open_.empty() ? o_.hash_all : open_.back().hashes_child;
  }

  bool enter(bool& opened);
  bool leaf(std::uint8_t t);
  bool atom();
  bool pid(std::uint8_t t);
  bool port(std::uint8_t t);
  bool reference(std::uint8_t t);
  bool bignum(std::uint64_t n);
  bool small(std::int64_t& v);
  bool external_fun();
  bool closure();
  bool record(bool& opened);
  bool bits();
  bool next_tag(std::uint8_t& t);
  bool open(inside what, std::uint64_t children, std::uint64_t seed);
  bool leave(bool& done);
  bool fold(frame& f);
  bool merge_tail(bool& merged);
  void before_child() noexcept;
  bool has_twins(std::size_t first);

  const std::byte* begin_;
  const std::byte* p_;
  const std::byte* end_;
  options o_;
  errc failure_ = errc::malformed;
  std::vector<frame> open_;
  std::vector<key> keys_;
  std::size_t deepest_ = 0;
  std::uint64_t value_ = 0; // hash of the term just left
  bool needs_rewrite_ = false;
  bool has_wordless_ref_ = false;
};

// What the hash of every list starts from, a string's too.
inline constexpr std::uint64_t list_seed = 0x6C69737400000001U;

// The hash of a term without children (also of a string).
std::uint64_t hash_leaf(const head& h) noexcept;
std::uint64_t hash_atom(const atom_bytes& a) noexcept;
std::uint64_t hash_integer(std::int64_t v) noexcept;

} // namespace esp::etf
