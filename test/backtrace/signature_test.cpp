#include "backtrace/signature.hpp"

#include <doctest/doctest.h>

using esp::backtrace::parse_signature;
using esp::backtrace::signature;
using esp::backtrace::signature_of;

TEST_CASE("a function is its name and the number of its parameters") {
  CHECK(parse_signature("f()") == signature{"f", 0});
  CHECK(parse_signature("f(int)") == signature{"f", 1});
  CHECK(parse_signature("n::c::f(int, char const*, ...)")
        == signature{"n::c::f", 3});
  CHECK(parse_signature("f(std::map<int, long>, void (*)(int, int))")
        == signature{"f", 2});
  CHECK(parse_signature("n::c::f(int) const &") == signature{"n::c::f", 1});
  CHECK(parse_signature("main") == signature{"main", 0});
}

TEST_CASE("the type that a template returns is not in its name") {
  CHECK(parse_signature("std::vector<int> n::make<int, 3>(int)")
        == signature{"n::make<int, 3>", 1});
  CHECK(parse_signature("int (anonymous namespace)::own::operator()<int>(int, "
                        "int)")
        == signature{"own::operator()<int>", 2});
}

TEST_CASE("operators keep their names") {
  CHECK(parse_signature("c::operator()(int) const")
        == signature{"c::operator()", 1});
  CHECK(parse_signature("c::operator std::string() const")
        == signature{"c::operator std::string", 0});
  CHECK(parse_signature("operator new(unsigned long)")
        == signature{"operator new", 1});
  CHECK(parse_signature("bool operator< <int>(c<int> const&, c<int> const&)")
        == signature{"operator< <int>", 2});
  CHECK(parse_signature("c::operator->()") == signature{"c::operator->", 0});
}

TEST_CASE("a lambda is what is called, within what it was written in") {
  CHECK(parse_signature("n::f(int, char)::{lambda(int)#1}::operator()(int) "
                        "const [clone .isra.0] [clone .cold]")
        == signature{"n::f(int, char)::{lambda(int)#1}::operator()", 1});
}

TEST_CASE("no namespace is anonymous, and a string is a string") {
  CHECK(parse_signature("(anonymous namespace)::f(int)") == signature{"f", 1});
  CHECK(parse_signature("(anonymous namespace)::x") == signature{"x", 0});
  CHECK(parse_signature("f<std::__cxx11::basic_string<char, std::char_traits<"
                        "char>, std::allocator<char> > >()")
        == signature{"f<std::string >", 0});
}

TEST_CASE("a long name is cut, and not within a character") {
  for (const char* c : {"x", "\xC3\xBC", "\xE2\x82\xAC"}) {
    std::string name;
    while (name.size() < 300)
      name += c;
    const auto s = parse_signature(name + "(int)");
    CHECK(s.arity == 1);
    CHECK(s.name.size() <= 120);
    CHECK(s.name.ends_with(std::string(c) + "..."));
  }
}

TEST_CASE("symbols of C++ are mangled, others are not") {
  CHECK(signature_of("_ZN1n6helperIiEEiT_PKc") == signature{"n::helper<int>", 2});
  CHECK(signature_of("abort") == signature{"abort", 0});
}

TEST_CASE("whatever there is in a name, it is read to its end") {
  for (const char* s : {"", "(", ")", "()", "((", "))", "f(", "f)(", ")f(",
                        "operator", "operator(", "operator()", "<", "f<(int)",
                        " ", "f() const", " [clone", "f(int) [clone"})
    CHECK(parse_signature(s).name.size() <= 120);
}
