#include "coop/dispatch.hpp"

#include "esp/plugin.hpp"

#include "coop/emitter.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <string>

namespace {

using namespace esp;
using namespace esp::coop;
using method = dataflow::method;

std::vector<out_edge> edges(std::size_t n, std::uint64_t window = 10) {
  std::vector<out_edge> all(n);
  for (std::size_t i = 0; i < n; ++i) {
    all[i].window = window;
    all[i].target = atom("w" + std::to_string(i));
  }
  return all;
}

part element(std::size_t place) {
  return {part::kind::element, place, {}, {}};
}
part key(term k) {
  return {part::kind::key, 0, std::move(k), nullptr};
}

// One method at work over edges that nothing is sent on.
struct at_work {
  at_work(method how, std::size_t n, part by = {}, std::uint64_t seed = 1)
      : out(edges(n)), over({how, std::move(by)}, out, seed) {}

  std::vector<std::uint32_t> all(term t) {
    datum d = datum::of(std::move(t));
    const auto chosen = over.choose(d, out);
    return {chosen.begin(), chosen.end()};
  }
  std::uint32_t one(term t) {
    const auto chosen = all(std::move(t));
    REQUIRE(chosen.size() == 1);
    return chosen.front();
  }
  std::uint32_t next() { return one(term()); }

  std::vector<out_edge> out;
  dispatch over;
};

std::string reason_of(at_work& w, term t) {
  try {
    w.all(std::move(t));
  } catch (const bad_result& e) {
    return e.reason().to_string();
  }
  return "none";
}

// Chi-square of counts that should be equal; its mean is one less than their
// number.
double chi_square(const std::vector<int>& counts) {
  double total = 0, sum = 0;
  for (const int c : counts)
    total += c;
  const double expected = total / static_cast<double>(counts.size());
  for (const int c : counts)
    sum += (c - expected) * (c - expected) / expected;
  return sum;
}
// Beyond it one in a billion are, if 10 or fewer are counted.
constexpr double unlikely = 62;

TEST_CASE("round_robin takes one edge after the other") {
  at_work w(method::round_robin, 3);
  for (std::uint32_t i = 0; i < 9; ++i)
    CHECK(w.next() == i % 3);
}

TEST_CASE("random takes all edges alike, whichever it took before") {
  constexpr std::size_t n = 5;
  for (std::uint64_t seed : {0u, 1u, 2u, 0x9E3779B9u}) {
    at_work w(method::random, n, {}, seed);
    std::vector<int> counts(n);
    std::vector<std::vector<int>> after(n, std::vector<int>(n));
    std::uint32_t last = w.next();
    for (int i = 0; i < 50'000; ++i) {
      const std::uint32_t now = w.next();
      ++counts[now];
      ++after[last][now];
      last = now;
    }
    CHECK(chi_square(counts) < unlikely);
    for (const auto& a : after)
      CHECK(chi_square(a) < unlikely);
  }
}

TEST_CASE("two nodes do not make the same random choices") {
  at_work a(method::random, 10, {}, 1), b(method::random, 10, {}, 2);
  int same = 0;
  for (int i = 0; i < 1'000; ++i)
    same += a.next() == b.next();
  CHECK(same > 40);
  CHECK(same < 180);
}

TEST_CASE("shuffle takes each edge once before any a second time") {
  constexpr std::uint32_t n = 7;
  at_work w(method::shuffle, n);
  for (int round = 0; round < 100; ++round) {
    std::set<std::uint32_t> taken;
    for (std::uint32_t i = 0; i < n; ++i)
      taken.insert(w.next());
    CHECK(taken.size() == n);
  }
}

TEST_CASE("every order of a shuffled round is as likely as any other") {
  std::map<std::vector<std::uint32_t>, int> orders;
  at_work w(method::shuffle, 3);
  for (int round = 0; round < 12'000; ++round)
    ++orders[{w.next(), w.next(), w.next()}];
  CHECK(orders.size() == 6);
  std::vector<int> counts;
  for (const auto& [order, count] : orders)
    counts.push_back(count);
  CHECK(chi_square(counts) < unlikely);
}

TEST_CASE("equal keys take the same edge, however they are encoded") {
  at_work w(method::hash, 8);
  const term latin1 = term::string("abc");
  const term list =
      term::list({term::integer('a'), term::integer('b'), term::integer('c')});
  REQUIRE(latin1 == list);
  CHECK(w.one(latin1) == w.one(list));
  for (std::int64_t i = 0; i < 100; ++i)
    CHECK(w.one(term::integer(i)) == w.one(term::integer(i)));
}

TEST_CASE("hash goes by the part that it was given") {
  const auto pair = [](std::int64_t a, std::int64_t b) {
    return term::tuple({term::integer(a), term::integer(b)});
  };
  at_work first(method::hash, 8, element(0)),
      second(method::hash, 8, element(1)), all(method::hash, 8),
      by_key(method::hash, 8, key(atom("k")));
  for (std::int64_t i = 0; i < 50; ++i) {
    CHECK(first.one(pair(i, 1)) == all.one(term::integer(i)));
    CHECK(second.one(pair(1, i)) == all.one(term::integer(i)));
    CHECK(by_key.one(term::map(
              {{atom("x"), term::integer(1)}, {atom("k"), term::integer(i)}}))
          == all.one(term::integer(i)));
  }
}

TEST_CASE("keys are spread evenly, whatever they are") {
  constexpr int keys = 20'000;
  constexpr std::size_t n = 10;
  const auto spread = [](auto&& make) {
    at_work w(method::hash, n);
    std::vector<int> counts(n);
    for (std::int64_t i = 0; i < keys; ++i)
      ++counts[w.one(make(i))];
    return chi_square(counts);
  };
  CHECK(spread([](auto i) { return term::integer(i); }) < unlikely);
  CHECK(spread([](auto i) { return term::integer(i * 4096); }) < unlikely);
  CHECK(spread([](auto i) { return term::binary(std::to_string(i)); })
        < unlikely);
  CHECK(spread([](auto i) { return term::floating(double(i)); }) < unlikely);
  CHECK(spread([](auto i) {
          return term::tuple({atom("k"), term::integer(i)});
        })
        < unlikely);
}

// Where each key goes, by the name of the worker, when `gone` has left and
// the others stand in the order given.
std::vector<std::string> placed(std::vector<out_edge> out, int keys) {
  dispatch over({method::hash, {}}, out, 1);
  std::vector<std::string> names;
  for (std::int64_t i = 0; i < keys; ++i) {
    datum d = datum::of(term::integer(i));
    names.emplace_back(out[over.choose(d, out).front()].target.name());
  }
  return names;
}

TEST_CASE(
    "a worker that comes takes its share of the keys, and no other moves") {
  constexpr int keys = 20'000;
  for (std::size_t n = 1; n < 12; ++n) {
    const auto before = placed(edges(n), keys),
               after = placed(edges(n + 1), keys);
    const std::string newcomer = "w" + std::to_string(n);
    int moved = 0;
    for (std::size_t i = 0; i < keys; ++i)
      if (before[i] != after[i]) {
        ++moved;
        CHECK(after[i] == newcomer);
      }
    const double share = 1.0 / static_cast<double>(n + 1);
    const double deviation = std::sqrt(keys * share * (1 - share));
    CHECK(std::abs(moved - keys * share) < 6 * deviation);
  }
}

TEST_CASE("only the keys of a worker that goes move, whichever it is") {
  constexpr int keys = 5'000;
  const auto before = placed(edges(6), keys);
  for (std::size_t gone = 0; gone < 6; ++gone) {
    auto left = edges(6);
    left.erase(left.begin() + static_cast<std::ptrdiff_t>(gone));
    std::reverse(left.begin(), left.end()); // their order is of no account
    const auto after = placed(left, keys);
    for (std::size_t i = 0; i < keys; ++i)
      if (before[i] != "w" + std::to_string(gone))
        CHECK(before[i] == after[i]);
  }
}

TEST_CASE("select takes the edges that are named, in that order") {
  at_work w(method::select, 3);
  const term a = atom("w0"), b = atom("w1"), c = atom("w2");
  CHECK(w.all(b) == std::vector<std::uint32_t>{1});
  CHECK(w.all(term::list({c, a})) == std::vector<std::uint32_t>{2, 0});
  CHECK(w.all(term::list({b, b})) == std::vector<std::uint32_t>{1, 1});
  CHECK(w.all(term()).empty());
}

TEST_CASE("select goes by the part that it was given") {
  at_work w(method::select, 3, element(1));
  CHECK(w.one(term::tuple({term::integer(7), atom("w2")})) == 2);
  CHECK(w.one(term::tuple({term::integer(7), atom("w0")})) == 0);
}

TEST_CASE("a name that is not downstream is said, and nothing is chosen") {
  at_work w(method::select, 2);
  CHECK(reason_of(w, atom("nobody")) == "{bad_select,nobody}");
  CHECK(reason_of(w, term::list({atom("w0"), atom("nobody")}))
        == "{bad_select,nobody}");
  CHECK(reason_of(w, term::integer(1)) == "{bad_select,1}");
  CHECK(reason_of(w, term::binary("w0")) == "{bad_select,<<\"w0\">>}");
  // what was said before is forgotten
  CHECK(w.all(atom("w1")) == std::vector<std::uint32_t>{1});
}

TEST_CASE("a result without the part is said, by hash and by select") {
  for (const method how : {method::hash, method::select}) {
    at_work second(how, 2, element(1)), by_key(how, 2, key(atom("k")));
    CHECK(reason_of(second, term::tuple({atom("a")}))
          == "{no_part,{element,2},{a}}");
    CHECK(reason_of(second, atom("a")) == "{no_part,{element,2},a}");
    CHECK(reason_of(by_key, term::map({{atom("x"), atom("y")}}))
          == "{no_part,{key,k},#{x => y}}");
    CHECK(reason_of(by_key, atom("a")) == "{no_part,{key,k},a}");
  }
}

TEST_CASE("least_loaded takes the edge with the fewest data on it") {
  at_work w(method::least_loaded, 4);
  w.out[0].sent = 5;
  w.out[1].sent = 9;
  w.out[1].returned = 6;
  w.out[2].sent = 4;
  w.out[3].sent = 3;
  w.out[3].returned = 1;
  CHECK(w.next() == 3);
  w.out[3].returned = 0;
  w.out[1].sent = 8;
  CHECK(w.next() == 1);
}

TEST_CASE("least_loaded counts what a receiver in this home has given back") {
  at_work w(method::least_loaded, 2);
  for (auto& e : w.out) {
    e.local = new local_link;
    e.sent = 4;
  }
  w.out[1].local->returned = 3;
  CHECK(w.next() == 1);
  w.out[0].local->returned = 4;
  CHECK(w.next() == 0);
}

TEST_CASE("among edges with as much on them least_loaded takes turns") {
  at_work w(method::least_loaded, 3);
  for (std::uint32_t i = 0; i < 9; ++i)
    CHECK(w.next() == i % 3);
  for (auto& e : w.out)
    e.sent = 2;
  for (std::uint32_t i = 0; i < 9; ++i) {
    const std::uint32_t chosen = w.next();
    CHECK(chosen == i % 3);
    ++w.out[chosen].sent; // so that it evens out again after a round
  }
}

TEST_CASE("least_loaded takes no full edge while another has credit") {
  at_work w(method::least_loaded, 3);
  w.out[0].sent = w.out[2].sent = 10;
  w.out[1].sent = 9;
  CHECK(w.next() == 1);
  CHECK(w.next() == 1);
}

// ---- Instances: several edges chosen as one --------------------------------

TEST_CASE("instances are chosen as edges are, by their first one's name") {
  const auto out = edges(6);
  for (const method how : {method::round_robin, method::random, method::shuffle,
                           method::least_loaded, method::hash}) {
    dispatch over({how, {}}, out, 1, 2);
    std::set<std::uint32_t> chosen;
    for (std::int64_t i = 0; i < 100; ++i) {
      datum d = datum::of(term::integer(i));
      const auto one = over.choose(d, out);
      REQUIRE(one.size() == 1);
      chosen.insert(one.front());
    }
    CHECK(chosen == std::set<std::uint32_t>{0, 1, 2});
  }
  const std::vector<out_edge> firsts{out[0], out[2], out[4]};
  dispatch several({method::hash, {}}, out, 1, 2),
      single({method::hash, {}}, firsts, 1);
  for (std::int64_t i = 0; i < 100; ++i) {
    datum d = datum::of(term::integer(i));
    CHECK(several.choose(d, out).front() == single.choose(d, firsts).front());
  }
}

TEST_CASE("an instance is as loaded as its fullest edge") {
  auto out = edges(4);
  dispatch over({method::least_loaded, {}}, out, 1, 2);
  datum d;
  out[0].sent = 0, out[1].sent = 10; // full, and less in all
  out[2].sent = 9, out[3].sent = 9;
  CHECK(over.choose(d, out).front() == 1);
  CHECK(over.choose(d, out).front() == 1);
  out[1].returned = 2;
  CHECK(over.choose(d, out).front() == 0);
}

// ---- Tasks that hash and select go by ---------------------------------------

std::int64_t tens(std::int64_t x) {
  return x / 10;
}
many<atom> to_both(std::int64_t x) {
  if (x == 0)
    return {};
  return {atom("w0"), atom("w1")};
}
std::optional<std::int64_t> positive(std::int64_t x) {
  return x > 0 ? std::optional(x) : std::nullopt;
}

template <class F>
detail::task_entry entry_of(F* f) {
  using s = detail::signature<F*>;
  detail::task_entry e{};
  e.function = reinterpret_cast<void (*)()>(f);
  e.call = [](void* self, datum& in, outlet& out) {
    s::call(*reinterpret_cast<F*>(self), in, out);
  };
  return e;
}
part task(const detail::task_entry& e) {
  return {part::kind::task, 0, atom("the_task"), &e};
}

TEST_CASE("hash goes by what a task makes of the result") {
  const auto e = entry_of(tens);
  at_work w(method::hash, 8, task(e)), all(method::hash, 8);
  for (std::int64_t i = 0; i < 100; ++i)
    CHECK(w.one(term::integer(i)) == all.one(term::integer(i / 10)));
}

TEST_CASE("a task that gives no key or cannot take the result is said") {
  const auto e = entry_of(positive);
  at_work w(method::hash, 8, task(e));
  CHECK(reason_of(w, term::integer(0)) == "{no_part,the_task,0}");
  CHECK(reason_of(w, atom("x")) == "{no_part,the_task,x}");
  CHECK(w.one(term::integer(1)) == w.one(term::integer(1)));
}

TEST_CASE("select takes all edges that a task names") {
  const auto e = entry_of(to_both);
  at_work w(method::select, 3, task(e));
  CHECK(w.all(term::integer(1)) == std::vector<std::uint32_t>{0, 1});
  CHECK(w.all(term::integer(0)).empty());
}

std::string first_word(std::string s) {
  return s.substr(0, s.find(' '));
}

TEST_CASE("a task that takes its datum by value leaves the result whole") {
  const auto e = entry_of(first_word);
  const auto out = edges(4);
  dispatch over({method::hash, task(e)}, out, 1);
  const std::string text = "some words that are long enough to be moved away";
  datum d = datum::of(std::string(text));
  over.choose(d, out);
  CHECK(d.as<std::string>() == text);
}

} // namespace
