// etf_verdict: what would OTP 25's binary_to_term/1 say? Reads frames
// `Len:32, Bytes` from standard input and writes one byte for each: '1' where
// it would return a term (bytes after the term are ignored), else '0'. Answers
// are written as soon as no whole frame waits, so that it can sit behind an
// Erlang port. A second argument of `--atoms N` tells how many atoms the node
// in question has; see verdict() for why that matters.

#include "base/bytes.hpp"
#include "term/scan.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace {

bool write_all(const std::string& answers) {
  std::size_t at = 0;
  while (at < answers.size()) {
    const ssize_t n =
        ::write(STDOUT_FILENO, answers.data() + at, answers.size() - at);
    if (n < 0 && errno != EINTR) {
      return false;
    }
    at += n > 0 ? static_cast<std::size_t>(n) : 0;
  }
  return true;
}

// Answers the whole frames at the front of `in` and takes them off.
std::string answer(std::vector<std::byte>& in, std::size_t atoms) {
  std::string answers;
  std::size_t at = 0;
  while (in.size() - at >= 4) {
    const std::size_t n = esp::base::load_be<std::uint32_t>(in.data() + at);
    if (in.size() - at - 4 < n) {
      break;
    }
    // A copy of its own, so that a sanitizer sees a step past its end.
    const std::vector<std::byte> frame(
        in.begin() + static_cast<std::ptrdiff_t>(at + 4),
        in.begin() + static_cast<std::ptrdiff_t>(at + 4 + n));
    answers += esp::etf::verdict(frame, atoms) ? '1' : '0';
    at += 4 + n;
  }
  in.erase(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(at));
  return answers;
}

} // namespace

int main(int argc, char** argv) {
  std::size_t atoms = 8'744; // a node that has just booted
  if (argc == 3 && std::string_view(argv[1]) == "--atoms") {
    atoms = std::strtoull(argv[2], nullptr, 10);
  } else if (argc != 1) {
    std::fputs("usage: etf_verdict [--atoms N] < frames\n", stderr);
    return 2;
  }
  std::vector<std::byte> in;
  std::vector<std::byte> piece(1 << 20);
  for (;;) {
    const ssize_t n = ::read(STDIN_FILENO, piece.data(), piece.size());
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      return n == 0 && in.empty() ? 0 : 1; // cut in the middle of a frame
    }
    in.insert(in.end(), piece.begin(), piece.begin() + n);
    if (!write_all(answer(in, atoms))) {
      return 1;
    }
  }
}
