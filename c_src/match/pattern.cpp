#include "match/pattern.hpp"

#include "term/scan.hpp"

#include <algorithm>
#include <utility>

namespace esp::match {

using etf::form;

namespace {

using pairs = std::vector<std::pair<place, place>>;

// Where variables are, in the order of the bytes.
std::vector<place> variables_in(place p) {
  std::vector<place> found;
  for (const place end = etf::skip(p); p < end;) {
    p = etf::strip(p);
    const auto h = etf::read(p);
    if (variable_of(h) != -1)
      found.push_back(p);
    p = h.next;
  }
  return found;
}

bool has_any(const std::vector<place>& variables, place p) {
  const auto first = std::lower_bound(variables.begin(), variables.end(), p);
  return first != variables.end() && *first < etf::skip(p);
}

// Each key of the pattern is one of the map; others may be, too.
bool open_map(const etf::head& want, const etf::head& have, pairs& open,
              budget& left) {
  constexpr std::size_t bytes_of_look = 16; // about what a small pair has
  const auto wanted = children_of(want), all = children_of(have);
  for (std::size_t i = 0; i < wanted.size(); i += 2) {
    std::size_t k = 0;
    while (k < all.size() && !etf::equal(wanted[i], all[k]))
      k += 2;
    if (!left.take(bytes_of_look * (k / 2 + 1)) || k == all.size())
      return false;
    open.emplace_back(wanted[i + 1], all[k + 1]);
  }
  return true;
}

} // namespace

std::optional<std::string> pattern::take(const term& head) {
  const auto first = etf::read(begin_of(head));
  if (!is_list(first) && first.what != form::nil && first.what != form::tuple
      && variable_of(first) == -1)
    return "Match head is not a list, a tuple or a variable.";
  // The arguments of a call are a row, however that is written.
  head_ = std::make_shared<const term>(
      first.what == form::tuple ? term::list(head.elements()) : head);
  const auto variables = variables_in(begin_of(*head_));
  std::vector<place> open{begin_of(*head_)};
  while (!open.empty()) {
    const place p = open.back();
    open.pop_back();
    const auto h = etf::read(p);
    if (!has_any(variables, p)) {
      constants_.insert(p);
      continue;
    }
    if (const auto v = variable_of(h); v >= 0)
      variables_.emplace(v, nullptr);
    if (is_list(h)) {
      const list_parts parts(p);
      if (!parts.is_proper())
        return "Match expression part " + at(p).to_string(100)
               + " is not a proper list.";
      open.insert(open.end(), parts.elements.begin(), parts.elements.end());
    } else if (h.what == form::tuple) {
      const auto all = children_of(h);
      open.insert(open.end(), all.begin(), all.end());
    } else if (h.what == form::map) {
      const auto all = children_of(h);
      for (std::size_t i = 0; i < all.size(); i += 2) {
        if (has_any(variables, all[i]))
          return "Variable found in map key.";
        open.push_back(all[i + 1]);
      }
    }
  }
  return std::nullopt;
}

bool pattern::matches(const term& t, bindings& bound, budget& left) const {
  pairs open{{begin_of(*head_), begin_of(t)}};
  const auto row = [&open](const std::vector<place>& a,
                           const std::vector<place>& b) {
    for (std::size_t i = 0; i < a.size(); ++i)
      open.emplace_back(a[i], b[i]);
  };
  while (!open.empty()) {
    const auto [want, have] = open.back();
    open.pop_back();
    const auto w = etf::read(want);
    const auto v = variable_of(w);
    if (v == any)
      continue;
    if (v >= 0) {
      const auto [known, is_new] = bound.emplace(v, have);
      if (!is_new && !etf::equal(known->second, have))
        return false;
      continue;
    }
    if (constants_.contains(want)) {
      if (!etf::equal(want, have))
        return false;
      continue;
    }
    const auto h = etf::read(have);
    if (is_list(w)) {
      if (!is_list(h) || !left.take(size_of(have)))
        return false;
      const list_parts a(want), b(have);
      if (a.elements.size() != b.elements.size() || !b.is_proper())
        return false;
      row(a.elements, b.elements);
    } else if (w.what == form::tuple) {
      if (h.what != form::tuple || w.count != h.count
          || !left.take(size_of(have)))
        return false;
      row(children_of(w), children_of(h));
    } else if (w.what == form::map) {
      if (h.what != form::map || !left.take(size_of(have))
          || !open_map(w, h, open, left))
        return false;
    }
  }
  return true;
}

} // namespace esp::match
