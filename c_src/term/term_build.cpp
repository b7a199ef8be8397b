// The making of atoms, and of terms of everyday shapes.

#include "esp/codec.hpp"
#include "esp/term.hpp"

#include "term/atom_table.hpp"

#include <stdexcept>

namespace esp {

atom::atom(std::string_view utf8) {
  auto interned = intern(utf8);
  if (!interned) {
    throw std::length_error("no atom: " + interned.error().what);
  }
  index_ = interned->index_;
}

result<atom> atom::intern(std::string_view utf8) {
  if (!etf::is_atom_text(utf8)) {
    return {errc::badarg, "no UTF-8 text of at most 255 characters"};
  }
  auto index = etf::intern_atom(utf8);
  if (!index) {
    return index.error();
  }
  atom a;
  a.index_ = *index;
  return a;
}

std::string_view atom::name() const noexcept {
  return etf::atom_text(index_);
}

namespace {

template <class Write>
term written(Write write) {
  encoder out;
  write(out);
  return out.finish();
}

} // namespace

term::term(atom a) : term(to_term(a)) {}

term::term(const esp::pid& p) : term(to_term(p)) {}

term::term(const esp::ref& r) : term(to_term(r)) {}

term::term(const esp::port& p) : term(to_term(p)) {}

term term::integer(std::int64_t v) {
  return to_term(v);
}

term term::floating(double v) {
  return to_term(v);
}

term term::binary(std::string_view bytes) {
  return to_term(bytes);
}

term term::string(std::string_view latin1) {
  return written([&](encoder& out) { out.string(latin1); });
}

term term::tuple(std::span<const term> elements) {
  return written([&](encoder& out) {
    out.tuple(elements.size());
    for (const term& t : elements) {
      out.value(t);
    }
  });
}

term term::tuple(std::initializer_list<term> elements) {
  return tuple(std::span(elements.begin(), elements.size()));
}

term term::list(std::span<const term> elements) {
  return list(elements, term());
}

term term::list(std::initializer_list<term> elements) {
  return list(std::span(elements.begin(), elements.size()), term());
}

term term::list(std::span<const term> elements, const term& tail) {
  if (elements.empty()) {
    return tail;
  }
  return written([&](encoder& out) {
    out.list(elements.size());
    for (const term& t : elements) {
      out.value(t);
    }
    out.value(tail);
  });
}

term term::map(std::span<const std::pair<term, term>> pairs) {
  return written([&](encoder& out) {
    out.map(pairs.size());
    for (const auto& [key, value] : pairs) {
      out.value(key);
      out.value(value);
    }
  });
}

term term::map(std::initializer_list<std::pair<term, term>> pairs) {
  return map(std::span(pairs.begin(), pairs.size()));
}

} // namespace esp
