// Any term as a match specification and as what it is run on: first a
// specification, then its arguments. And the order of both.

#include "esp/term.hpp"

#include "match/order.hpp"
#include "match/spec.hpp"
#include "term/scan.hpp"
#include "term/slicer.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  const auto* at = reinterpret_cast<const std::byte*>(data);
  const std::vector<std::byte> bytes(at, at + size);
  const esp::etf::limits caps{.max_depth = 1000, .max_inflated = 1 << 20};
  esp::etf::slicer frame(bytes, caps);
  const auto program = frame.next();
  if (!program)
    return 0;
  const auto args = frame.left() > 0 ? frame.next() : program;
  if (!args)
    return 0;
  using namespace esp::match;
  const int order = compare(*program, *args);
  const int other_way = compare(*args, *program);
  if ((order < 0) != (other_way > 0) || compare(*args, *args) != 0)
    std::abort();
  const auto made = spec::compile(*program, use::calls);
  if (const auto* s = std::get_if<spec_ptr>(&made))
    (void)(*s)->run({esp::pid{}, esp::atom("n@h")}, *args, nullptr);
  return 0;
}
