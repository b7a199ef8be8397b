#include "term/print_leaf.hpp"

#include "term/read.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <string_view>
#include <vector>

namespace esp::etf {
namespace {

using base::load_be;

constexpr std::array<std::string_view, 27> reserved = {
    "after",  "and",     "andalso", "band", "begin", "bnot", "bor",
    "bsl",    "bsr",     "bxor",    "case", "catch", "cond", "div",
    "end",    "fun",     "if",      "let",  "not",   "of",   "or",
    "orelse", "receive", "rem",     "try",  "when",  "xor"};

void append_utf8(std::string& out, unsigned c) { // of latin-1
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else {
    out += static_cast<char>(0xC0 | (c >> 6));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

void append_escaped(std::string& out, unsigned c, char quote) {
  switch (c) {
  case '\n':
    out += "\\n";
    return;
  case '\r':
    out += "\\r";
    return;
  case '\t':
    out += "\\t";
    return;
  case '\v':
    out += "\\v";
    return;
  case '\b':
    out += "\\b";
    return;
  case '\f':
    out += "\\f";
    return;
  case 27:
    out += "\\e";
    return;
  case '\\':
    out += "\\\\";
    return;
  default:
    if (c == static_cast<unsigned char>(quote)) {
      out += '\\';
    }
    append_utf8(out, c);
  }
}

// The letters of latin-1 beyond ASCII are C3 80 to C3 BF in UTF-8, but for the
// signs of multiplication and division; the small ones start at C3 9F.
bool is_plain_atom(std::string_view s) {
  const auto is_word = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
           || (c >= '0' && c <= '9') || c == '_' || c == '@';
  };
  if (std::find(reserved.begin(), reserved.end(), s) != reserved.end()) {
    return false;
  }
  for (std::size_t i = 0; i < s.size(); ++i) {
    if (s[i] != '\xC3') {
      if (!(i == 0 ? s[0] >= 'a' && s[0] <= 'z' : is_word(s[i]))) {
        return false;
      }
      continue;
    }
    const auto second =
        static_cast<unsigned char>(i + 1 < s.size() ? s[i + 1] : 0);
    if (second < (i == 0 ? 0x9F : 0x80) || second == 0x97 || second == 0xB7) {
      return false;
    }
    ++i;
  }
  return !s.empty();
}

// The characters of a binary that is text in UTF-8 with something beyond
// ASCII in it, within the range that io_lib prints by default.
bool is_printable_utf8(const std::byte* p, std::uint64_t n,
                       std::string& latin1) {
  bool beyond = false;
  for (std::uint64_t i = 0; i < n; ++i) {
    unsigned c = tag_at(p + i);
    if (c >= 0x80) {
      if ((c != 0xC2 && c != 0xC3) || i + 1 >= n
          || (tag_at(p + i + 1) & 0xC0) != 0x80) {
        return false;
      }
      c = ((c & 3u) << 6) | (tag_at(p + ++i) & 0x3Fu);
      beyond = true;
    }
    if (!is_printable(c)) {
      return false;
    }
    latin1 += static_cast<char>(c);
  }
  return beyond;
}

} // namespace

bool is_printable(std::int64_t c) noexcept {
  return (c >= 32 && c < 127) || (c >= 160 && c <= 255) || (c >= 8 && c <= 13)
         || c == 27;
}

void print_atom(std::string& out, const atom_bytes& a) {
  const std::string s = utf8_of(a);
  if (is_plain_atom(s)) {
    out += s;
    return;
  }
  out += '\'';
  for (const char c : s) {
    if ((c & 0x80) != 0) {
      out += c; // a part of a character
    } else {
      append_escaped(out, static_cast<unsigned char>(c), '\'');
    }
  }
  out += '\'';
}

// io_lib's choice between 1000.0 and 1.0e3: whichever is shorter, and always
// the latter from 2^53 on.
void print_float(std::string& out, double v) {
  std::array<char, 64> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(),
                                 std::fabs(v), std::chars_format::scientific)
                       .ptr;
  const std::string_view s(text.data(),
                           static_cast<std::size_t>(end - text.data()));
  const std::size_t e = s.find('e');
  std::string digits(s.substr(0, e));
  std::erase(digits, '.');
  int exponent = 0;
  const char* from = s.data() + e + 1;
  std::from_chars(*from == '+' ? from + 1 : from, end, exponent);
  if (std::signbit(v)) {
    out += '-';
  }
  const int place = exponent + 1; // of the point, in digits
  const int n = static_cast<int>(digits.size());
  const std::string exp_text = std::to_string(place - 1);
  const int exp_cost = static_cast<int>(exp_text.size()) + 1 + (n == 1 ? 2 : 1);
  const auto zeros = [](int count) {
    return std::string(static_cast<std::size_t>(std::max(count, 0)), '0');
  };
  const auto scientific = [&] {
    out += digits.substr(0, 1) + '.' + (n == 1 ? "0" : digits.substr(1)) + 'e'
           + exp_text;
  };
  if (v == 0) {
    out += "0.0";
  } else if (std::fabs(v) >= 9007199254740992.0) {
    scientific();
  } else if (place == 0) {
    out += "0." + digits;
  } else if (place < 0) {
    if (2 - place <= exp_cost) {
      out += "0." + zeros(-place) + digits;
    } else {
      scientific();
    }
  } else if (place >= n) {
    if (place - n + 2 <= exp_cost) {
      out += digits + zeros(place - n) + ".0";
    } else {
      scientific();
    }
  } else {
    out += digits.substr(0, static_cast<std::size_t>(place)) + '.'
           + digits.substr(static_cast<std::size_t>(place));
  }
}

// Up to a few kilobytes of digits in decimal; beyond, hexadecimal, which is
// the same number to Erlang and takes linear time.
void print_big(std::string& out, const head& h, std::size_t limit) {
  constexpr std::uint64_t longest_decimal = 2048;
  if (h.count <= longest_decimal) {
    out += decimal({h.body, static_cast<std::size_t>(h.count)}, h.is_negative);
    return;
  }
  out += h.is_negative ? "-16#" : "16#";
  constexpr std::string_view hex = "0123456789ABCDEF";
  const std::size_t room = limit > out.size() ? limit - out.size() : 0;
  const std::uint64_t n = std::min<std::uint64_t>(h.count, room / 2 + 2);
  for (std::uint64_t i = 0; i < n; ++i) {
    const std::uint8_t byte = tag_at(h.body + h.count - 1 - i);
    out += hex[byte >> 4];
    out += hex[byte & 15];
  }
}

void print_text(std::string& out, std::string_view latin1) {
  out += '"';
  for (const char c : latin1) {
    append_escaped(out, static_cast<unsigned char>(c), '"');
  }
  out += '"';
}

void print_binary(std::string& out, const head& h, std::size_t limit) {
  const std::uint64_t n = std::min<std::uint64_t>(h.count, limit + 1);
  const auto all_printable = [&] {
    for (std::uint64_t i = 0; i < n; ++i) {
      if (!is_printable(tag_at(h.body + i))) {
        return false;
      }
    }
    return n > 0;
  };
  out += "<<";
  std::string text;
  if (h.what == form::binary && is_printable_utf8(h.body, n, text)) {
    print_text(out, text);
    out += "/utf8";
  } else if (h.what == form::binary && all_printable()) {
    print_text(out, base::as_text({h.body, static_cast<std::size_t>(n)}));
  } else {
    for (std::uint64_t i = 0; i < n; ++i) {
      const unsigned byte = tag_at(h.body + i);
      out += i == 0 ? "" : ",";
      if (h.what == form::bits && i + 1 == h.count) {
        out += std::to_string(byte >> (8 - h.last_bits)) + ':'
               + std::to_string(h.last_bits);
      } else {
        out += std::to_string(byte);
      }
    }
  }
  out += ">>";
}

void print_identifier(std::string& out, const head& h) {
  const std::string node = utf8_of(h.name);
  switch (h.what) {
  case form::pid:
    out += '<' + node + '.' + std::to_string(h.id) + '.'
           + std::to_string(h.serial) + '>';
    return;
  case form::port:
    out += "#Port<" + node + '.' + std::to_string(h.id) + '>';
    return;
  default:
    out += "#Ref<" + node;
    for (std::uint64_t i = h.count; i-- > 0;) {
      out += '.' + std::to_string(load_be<std::uint32_t>(h.body + 4 * i));
    }
    out += '>';
  }
}

std::string decimal(std::span<const std::byte> magnitude, bool negative) {
  std::vector<std::uint32_t> words((magnitude.size() + 3) / 4);
  for (std::size_t i = 0; i < magnitude.size(); ++i) {
    words[i / 4] |= std::to_integer<std::uint32_t>(magnitude[i])
                    << (8 * (i % 4));
  }
  std::vector<std::uint32_t> groups; // of nine digits, the last ones first
  while (!words.empty()) {
    std::uint64_t rest = 0;
    for (std::size_t i = words.size(); i-- > 0;) {
      rest = (rest << 32) | words[i];
      words[i] = static_cast<std::uint32_t>(rest / 1'000'000'000);
      rest %= 1'000'000'000;
    }
    groups.push_back(static_cast<std::uint32_t>(rest));
    while (!words.empty() && words.back() == 0) {
      words.pop_back();
    }
  }
  std::string out(negative ? "-" : "");
  out += std::to_string(groups.empty() ? 0 : groups.back());
  for (std::size_t i = groups.empty() ? 0 : groups.size() - 1; i-- > 0;) {
    const std::string group = std::to_string(groups[i]);
    out.append(9 - group.size(), '0').append(group);
  }
  return out;
}

} // namespace esp::etf
