// Throws of this very executable, as its debugging information has them.

#include "backtrace/frames.hpp"
#include "backtrace/thrown.hpp"

#include <doctest/doctest.h>

#include <exception>
#include <future>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace bt = esp::backtrace;

namespace {

using namespace std::chrono_literals;

[[gnu::noinline]] int fails(int how) {
  if (how == 1)
    return std::vector<int>().at(3); // thrown in the library
  if (how == 2)
    throw 7;
  throw std::runtime_error("x");
}
struct caller {
  [[gnu::noinline]] int operator()(int how, const std::string&) const {
    return fails(how) + 1;
  }
};
[[gnu::always_inline]] inline int inlined(int how) {
  return caller()(how, "") + 2;
}
const unsigned line_of_calls = __LINE__ + 1;
[[gnu::noinline]] int calls(int how) { return inlined(how) + 3; }

std::vector<bt::frame> frames_of_throw(const std::function<void()>& f) {
  try {
    f();
  } catch (...) {
    return bt::frames_of(bt::thrown_at(), 60s);
  }
  return {};
}

std::size_t index(const std::vector<bt::frame>& in, std::string_view name) {
  for (std::size_t i = 0; i < in.size(); ++i)
    if (in[i].function.name == name)
      return i;
  FAIL("no ", std::string(name));
  return 0;
}

} // namespace

TEST_CASE("a throw has its calls, innermost first, with lines") {
  for (const int how : {0, 1, 2}) {
    const auto f = frames_of_throw([how] { calls(how); });
    const auto first = index(f, "fails");
    CHECK(f[first].function.arity == 1);
    REQUIRE(f.size() > first + 3);
    CHECK(f[first + 1].function == bt::signature{"caller::operator()", 2});
    CHECK(f[first + 2].function.name == "inlined");
    CHECK(f[first + 3].function == bt::signature{"calls", 1});
    CHECK(f[first + 3].line == line_of_calls);
    for (std::size_t i = first; i < first + 4; ++i) {
      CHECK(f[i].image == "test_backtrace");
      CHECK(f[i].file.ends_with("frames_test.cpp"));
      CHECK_FALSE(f[i].is_library);
    }
    // what the standard library threw with, which knows no lines, is before
    CHECK((first > 0) == (how == 1));
    if (how == 1) {
      CHECK(f[0].is_library);
      CHECK(f[0].image.starts_with("libstdc++"));
      CHECK(f[0].line == 0);
    }
  }
}

TEST_CASE("thrown again it has the stack of the first throw") {
  const auto f = frames_of_throw([] {
    try {
      calls(0);
    } catch (...) {
      throw;
    }
  });
  CHECK(f[0].function.name == "fails");
  const auto from_afar = frames_of_throw([] {
    std::async(std::launch::async, [] { return calls(0); }).get();
  });
  CHECK(from_afar[0].function.name == "fails");
  // one within the handling of another is another
  std::vector<bt::frame> inner;
  const auto outer = frames_of_throw([&inner] {
    try {
      calls(0);
    } catch (const std::exception&) {
      inner = frames_of_throw([] { caller()(2, ""); });
      throw;
    }
  });
  CHECK(index(inner, "caller::operator()") == 1);
  CHECK(outer.size() > 3);
  CHECK(outer[3].function.name == "calls");
}

TEST_CASE("what was not thrown has no stack") {
  CHECK(bt::thrown_at().empty());
  CHECK(frames_of_throw([] {
          std::rethrow_exception(std::make_exception_ptr(7));
        }).empty());
  CHECK(bt::frames_of({}, 1s).empty());
}

TEST_CASE("an exception is destroyed as ever, and its stack with it") {
  struct counted {
    explicit counted(int& n) : n_(&n) { ++*n_; }
    counted(const counted& o) : n_(o.n_) { ++*n_; }
    ~counted() { --*n_; }
    int* n_;
  };
  int n = 0;
  for (int i = 0; i < 1'000; ++i)
    try {
      throw counted(n);
    } catch (const counted&) {
      CHECK(n == 1);
    }
  CHECK(n == 0);
  std::vector<std::thread> all;
  for (int t = 0; t < 4; ++t)
    all.emplace_back([] {
      for (int i = 0; i < 2'000; ++i)
        try {
          (void)fails(2);
        } catch (int) {
          if (bt::thrown_at().empty())
            std::terminate();
        }
    });
  for (auto& t : all)
    t.join();
}

TEST_CASE("only so much of a deep stack is kept, the innermost calls") {
  struct deep {
    [[gnu::noinline]] static int go(int n) {
      return n == 0 ? fails(0) : go(n - 1) + 1;
    }
  };
  std::size_t depth = 0;
  try {
    (void)deep::go(100);
  } catch (...) {
    depth = bt::thrown_at().size();
  }
  CHECK(depth == bt::max_depth);
}

TEST_CASE("what no image holds has an offset and no names") {
  const auto f = bt::frames_of({0x10}, 60s);
  REQUIRE(f.size() == 1);
  CHECK(f[0].function.name.empty());
  CHECK(f[0].line == 0);
  CHECK(bt::image_name(&f).empty());
}
