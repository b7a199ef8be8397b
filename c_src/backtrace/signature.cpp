#include "backtrace/signature.hpp"

#include <cstdlib>
#include <cxxabi.h>
#include <memory>

namespace esp::backtrace {

namespace {

constexpr std::size_t max_name = 120;

void remove_all(std::string& from, std::string_view what,
                std::string_view instead = {}) {
  for (std::size_t at = 0; (at = from.find(what, at)) != std::string::npos;
       at += instead.size())
    from.replace(at, what.size(), instead);
}

bool opens(char c) { return c == '(' || c == '<' || c == '[' || c == '{'; }
bool closes(char c) { return c == ')' || c == '>' || c == ']' || c == '}'; }

// The '(' of the ')' that `s` ends in.
std::size_t opening(std::string_view s) {
  int depth = 0;
  for (std::size_t i = s.size(); i-- > 0;) {
    depth += s[i] == ')' ? 1 : s[i] == '(' ? -1 : 0;
    if (depth == 0)
      return i;
  }
  return std::string_view::npos;
}

unsigned count_parameters(std::string_view s) {
  if (s.empty() || s == "void")
    return 0;
  unsigned n = 1;
  int depth = 0;
  for (const char c : s) {
    depth += opens(c) ? 1 : closes(c) ? -1 : 0;
    n += c == ',' && depth == 0 ? 1 : 0;
  }
  return n;
}

// Where the name begins, behind the type that templates return. An operator's
// name may hold blanks and brackets: nothing behind `operator` counts.
std::size_t name_begins(std::string_view s) {
  std::size_t begin = 0;
  int depth = 0;
  for (std::size_t i = 0; i < s.size(); ++i) {
    if (depth == 0 && s.substr(i).starts_with("operator")
        && (i == 0 || s[i - 1] == ':' || s[i - 1] == ' '))
      break;
    depth += opens(s[i]) ? 1 : closes(s[i]) ? -1 : 0;
    if (s[i] == ' ' && depth == 0)
      begin = i + 1;
  }
  return begin;
}

} // namespace

signature parse_signature(std::string_view s) {
  if (const auto at = s.find(" [clone"); at != std::string_view::npos)
    s = s.substr(0, at);
  signature result;
  if (const auto end = s.rfind(')'); end != std::string_view::npos) {
    const auto after = s.substr(end + 1);
    const auto begin = opening(s.substr(0, end + 1));
    // "(anonymous namespace)::x" has no parameters, "f(int) const" has.
    if (begin != std::string_view::npos && begin > 0
        && (after.empty() || after[0] == ' ' || after[0] == '[')
        && !s.substr(0, begin).ends_with("operator")) {
      result.arity = count_parameters(s.substr(begin + 1, end - begin - 1));
      s = s.substr(0, begin);
    }
  }
  result.name = s.substr(name_begins(s));
  remove_all(result.name, "(anonymous namespace)::");
  remove_all(result.name, "[abi:cxx11]");
  remove_all(result.name,
             "std::__cxx11::basic_string<char, std::char_traits<char>, "
             "std::allocator<char> >",
             "std::string");
  cut_name(result.name);
  return result;
}

void cut_name(std::string& name) {
  if (name.size() <= max_name)
    return;
  std::size_t end = max_name - 3;
  while (end > 0 && (static_cast<unsigned char>(name[end]) & 0xC0) == 0x80)
    --end;
  name.replace(end, std::string::npos, "...");
}

signature signature_of(const char* symbol) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> plain(
      abi::__cxa_demangle(symbol, nullptr, nullptr, &status), &std::free);
  if (status == 0)
    return parse_signature(plain.get());
  signature s{symbol, 0}; // what is not C++ has no parameters in its name
  cut_name(s.name);
  return s;
}

} // namespace esp::backtrace
