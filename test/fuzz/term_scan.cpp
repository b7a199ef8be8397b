// Whatever the walk accepts, everything behind it must survive: taking apart,
// printing, comparing, hashing, rewriting, decoding into C++ types. And what
// is encoded again must be accepted again, as the same term.

#include "esp/codec.hpp"
#include "esp/term.hpp"

#include "term/rewrite.hpp"
#include "term/scan.hpp"
#include "term/slicer.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

namespace {

void require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

// An equal term of other bytes: its outermost parts put together anew.
esp::term rebuilt(const esp::term& t) {
  switch (t.kind()) {
  case esp::kind::tuple:
    return esp::term::tuple(t.elements());
  case esp::kind::list:
    if (const auto elements = t.as_list()) {
      return esp::term::list(*elements);
    }
    return t;
  case esp::kind::map: {
    auto pairs = t.pairs();
    return esp::term::map(std::vector(pairs.rbegin(), pairs.rend()));
  }
  default:
    return t;
  }
}

struct point {
  double x = 0;
  std::optional<std::int64_t> y;
  static constexpr auto fields() {
    return esp::fields(esp::field("x", &point::x), esp::field("y", &point::y));
  }
};

template <class T>
void through(const esp::term& t) {
  if (auto v = esp::from_term<T>(t)) {
    const esp::term again = esp::to_term(*v);
    require(esp::from_term<T>(again).has_value());
    require(esp::accepts<T>().contains(t.kind()));
    require(esp::encodes_to<T>().contains(again.kind()));
  }
}

void use(const esp::term& t) {
  require(t == t);
  (void)t.to_string(200);
  const esp::term other = rebuilt(t);
  require(other == t);
  require(other.hash() == t.hash());
  (void)t.as_iodata();
  (void)t.as_pid();
  (void)t.as_ref();
  (void)t.as_port();
  if (t.kind() == esp::kind::map) {
    for (const auto& [key, value] : t.pairs()) {
      const auto found = t.get(key);
      require(found && *found == value);
    }
  }
  through<std::int64_t>(t);
  through<std::uint8_t>(t);
  through<std::uint64_t>(t);
  through<esp::big_int>(t);
  through<double>(t);
  through<float>(t);
  through<bool>(t);
  through<std::string>(t);
  through<esp::binary>(t);
  through<std::vector<std::uint8_t>>(t);
  through<std::vector<esp::term>>(t);
  through<std::map<std::string, std::vector<std::int64_t>>>(t);
  through<std::pair<std::optional<esp::pid>, esp::term>>(t);
  through<std::variant<std::int64_t, std::string,
                       std::tuple<esp::term, std::vector<double>>>>(t);
  through<point>(t);

  auto narrow = esp::etf::narrow(t);
  require(!narrow || *narrow == t);

  const auto bytes = t.encode();
  const auto back = esp::term::decode(bytes);
  require(back.has_value());
  require(*back == t && back->hash() == t.hash());
  require(esp::etf::normalize(back->bytes()).size() > 0);
  const auto normal = esp::etf::normalize(t.bytes());
  const auto s = esp::etf::scan(normal);
  require(s && s->size == normal.size() && !s->needs_rewrite);
  require(esp::term::copy_of(normal) == t);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  // A copy of its own size, so that a step past the end is seen.
  const auto* at = reinterpret_cast<const std::byte*>(data);
  const std::vector<std::byte> bytes(at, at + size);
  (void)esp::etf::verdict(bytes);
  const esp::etf::limits caps{.max_depth = 1000, .max_inflated = 1 << 20};
  if (auto t = esp::etf::decode_external(bytes, caps)) {
    use(*t);
  }
  const std::vector<esp::atom> cached{esp::atom("a"), esp::atom("cached")};
  esp::etf::slicer frame(bytes, caps, cached);
  while (frame.left() > 0) {
    auto t = frame.next();
    if (!t) {
      break;
    }
    use(*t);
  }
  return 0;
}
