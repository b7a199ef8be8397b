#include "match/order.hpp"

#include "match/number.hpp"
#include "match/parts.hpp"
#include "term/scan.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>

namespace esp::match {

namespace {

using etf::form;
using etf::head;

int sign(const auto& a, const auto& b) {
  return a < b ? -1 : b < a ? 1 : 0;
}

int rank(form f) noexcept {
  switch (f) {
  case form::integer:
  case form::big:
  case form::floating:
    return 0;
  case form::atom:
    return 1;
  case form::ref:
    return 2;
  case form::external_fun:
  case form::closure:
    return 3;
  case form::port:
    return 4;
  case form::pid:
    return 5;
  case form::tuple:
  case form::record: // after tuples, in OTP 29
    return 6;
  case form::map:
    return 7;
  case form::nil:
    return 8;
  case form::string:
  case form::list:
    return 9;
  case form::binary:
  case form::bits:
    return 10;
  }
  return 11;
}

int by_name(const etf::atom_bytes& a, const etf::atom_bytes& b) {
  return sign(etf::utf8_of(a), etf::utf8_of(b));
}

int by_node(const head& a, const head& b) {
  const int names = by_name(a.name, b.name);
  return names != 0 ? names : sign(a.creation, b.creation);
}

int by_words(const head& a, const head& b) {
  for (auto i = std::max(a.count, b.count); i-- > 0;) {
    const auto word = [i](const head& h) {
      return i < h.count ? base::load_be<std::uint32_t>(h.body + 4 * i) : 0u;
    };
    if (const int c = sign(word(a), word(b)))
      return c;
  }
  return 0;
}

int by_bits(const head& a, const head& b) {
  const auto common = std::min(a.count, b.count);
  const auto bits = [](const head& h) {
    return h.count == 0 ? 0 : 8 * (h.count - 1) + h.last_bits;
  };
  // What the last byte does not use is not looked at.
  const auto whole = std::min(bits(a), bits(b)) / 8;
  if (const int c = std::memcmp(a.body, b.body, whole))
    return c;
  if (whole < common) {
    const auto left = std::min(bits(a), bits(b)) % 8;
    const auto byte = [&](const head& h) {
      return std::to_integer<unsigned>(h.body[whole]) >> (8 - left);
    };
    if (const int c = left == 0 ? 0 : sign(byte(a), byte(b)))
      return c;
  }
  return sign(bits(a), bits(b));
}

int by_function(const head& a, const head& b) {
  if (const int c = by_name(a.name, b.name))
    return c;
  if (a.what != b.what) // closures first
    return a.what == form::closure ? -1 : 1;
  if (a.what == form::external_fun) {
    const int c = by_name(a.function, b.function);
    return c != 0 ? c : sign(a.integer, b.integer);
  }
  if (const int c = sign(a.old_index, b.old_index))
    return c;
  if (const int c = sign(a.old_uniq, b.old_uniq))
    return c;
  return sign(a.count, b.count);
}

// Pairs of terms that decide, the next one last.
class comparison {
public:
  // `is_exact`: 1 < 1.0, as for keys of maps. Keys within keys are sorted by a
  // comparison of their own, so deep that the stack would not hold.
  comparison(bool is_exact, int depth) : is_exact_(is_exact), depth_(depth) {}

  int run(place a, place b) {
    open_.push_back({a, b, 0, is_exact_});
    while (!open_.empty()) {
      const pair p = open_.back();
      open_.pop_back();
      const int c = p.verdict != 0 ? p.verdict : one(p.a, p.b, p.is_exact);
      if (c != 0)
        return c;
    }
    return 0;
  }

private:
  struct pair {
    place a, b;
    int verdict; // if not 0, what it comes to when all before it were equal
    bool is_exact;
  };
  static constexpr int deepest = 16;

  int one(place pa, place pb, bool is_exact) {
    const head a = etf::read(pa), b = etf::read(pb);
    if (const int c = sign(rank(a.what), rank(b.what)))
      return c;
    switch (rank(a.what)) {
    case 0: {
      const bool mixed
          = (a.what == form::floating) != (b.what == form::floating);
      if (is_exact && mixed)
        return a.what == form::floating ? 1 : -1;
      return compare(*number_at(a), *number_at(b));
    }
    case 1:
      return by_name(a.name, b.name);
    case 2: {
      const int c = by_node(a, b);
      return c != 0 ? c : by_words(a, b);
    }
    case 3:
      return by_function(a, b);
    case 4:
    case 5: {
      if (const int c = sign(a.serial, b.serial))
        return c;
      const int c = sign(a.id, b.id);
      return c != 0 ? c : by_node(a, b);
    }
    case 6:
      if (a.what != b.what)
        return a.what == form::tuple ? -1 : 1;
      if (const int c = sign(a.count, b.count))
        return c;
      row(children_of(a), children_of(b), is_exact);
      return 0;
    case 7:
      return maps(a, b, is_exact);
    case 9:
      lists(pa, pb, is_exact);
      return 0;
    case 10:
      return by_bits(a, b);
    default:
      return 0;
    }
  }

  void row(const std::vector<place>& a, const std::vector<place>& b,
           bool is_exact) {
    for (std::size_t i = a.size(); i-- > 0;)
      open_.push_back({a[i], b[i], 0, is_exact});
  }

  void lists(place pa, place pb, bool is_exact) {
    const list_parts a(pa), b(pb);
    const auto n = std::min(a.elements.size(), b.elements.size());
    constexpr int list_rank = 9;
    const auto of_tail
        = [](const list_parts& l) { return rank(etf::read(l.tail).what); };
    if (a.elements.size() == b.elements.size())
      open_.push_back({a.tail, b.tail, 0, is_exact});
    else if (a.elements.size() < b.elements.size())
      open_.push_back({pa, pb, sign(of_tail(a), list_rank), is_exact});
    else
      open_.push_back({pa, pb, sign(list_rank, of_tail(b)), is_exact});
    for (std::size_t i = n; i-- > 0;)
      open_.push_back({a.elements[i], b.elements[i], 0, is_exact});
  }

  // By size, then by the keys in order, then by the values in that order.
  int maps(const head& a, const head& b, bool is_exact) {
    if (const int c = sign(a.count, b.count))
      return c;
    const auto in_order = [this](std::vector<place> all) {
      std::vector<std::size_t> keys(all.size() / 2);
      std::iota(keys.begin(), keys.end(), std::size_t{0});
      std::sort(keys.begin(), keys.end(), [&](std::size_t x, std::size_t y) {
        return key_order(all[2 * x], all[2 * y]) < 0;
      });
      std::vector<place> sorted;
      for (const auto k : keys)
        sorted.insert(sorted.end(), {all[2 * k], all[2 * k + 1]});
      return sorted;
    };
    const auto as = in_order(children_of(a)), bs = in_order(children_of(b));
    for (std::size_t i = as.size(); i > 0; i -= 2)
      open_.push_back({as[i - 1], bs[i - 1], 0, is_exact});
    for (std::size_t i = as.size(); i > 0; i -= 2)
      open_.push_back({as[i - 2], bs[i - 2], 0, true});
    return 0;
  }

  int key_order(place a, place b) const {
    if (depth_ < deepest)
      return comparison(true, depth_ + 1).run(a, b);
    if (etf::equal(a, b))
      return 0;
    const auto hash = [](place p) {
      return etf::hash({p, static_cast<std::size_t>(etf::skip(p) - p)});
    };
    return sign(hash(a), hash(b));
  }

  const bool is_exact_;
  const int depth_;
  std::vector<pair> open_;
};

} // namespace

int compare(const term& a, const term& b) {
  return comparison(false, 0).run(begin_of(a), begin_of(b));
}

} // namespace esp::match
