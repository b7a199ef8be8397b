// The elements of a control tuple, taken one by one as what they have to be.
// For control_decode.cpp only: it reads bytes that scan() has accepted, and
// checks no bound.

#pragma once

#include "esp/error.hpp"
#include "esp/term.hpp"

#include "dist/control.hpp"
#include "term/read.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace esp::dist {

// The first element that is not of the kind wanted, or not there, is
// remembered, and all later ones are empty: check has_failed() at the end.
class elements {
public:
  elements(const std::byte* first, std::size_t count) noexcept
      : at_(first), left_(count) {}

  pid take_pid();
  ref take_ref();
  atom take_atom();
  pid_or_name take_pid_or_name();
  // Any integer that is not negative; of a larger one the lowest 64 bits, and
  // `is_exact` then is false.
  std::uint64_t take_bits(bool& is_exact);
  std::uint64_t take_unsigned(); // of 64 bits at most
  std::span<const std::byte> take_any();
  // A tuple of `count` elements, which are taken next.
  void enter_tuple(std::size_t count);

  void fail(std::string_view wanted);
  void fail(esp::error e);
  bool has_failed() const noexcept { return has_failed_; }
  const esp::error& error() const noexcept { return error_; }

private:
  etf::head next(std::string_view wanted);
  bool is(const etf::head& h, etf::form wanted, std::string_view text);
  atom interned(const etf::atom_bytes& name);

  const std::byte* at_;
  std::size_t left_;
  bool has_failed_ = false;
  esp::error error_;
};

// The number of elements of the proper list at `at`, however it is written;
// none for anything else.
std::optional<std::uint64_t> proper_length(const std::byte* at);

} // namespace esp::dist
