#include "node/stack_of_throw.hpp"

#include "backtrace/frames.hpp"
#include "backtrace/thrown.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace esp::node {

namespace {

constexpr std::size_t max_entries = 16;
constexpr std::size_t max_file = 200; // bytes of a path, the end of it
// Longer than any file of debugging information takes on a machine at rest.
constexpr std::chrono::milliseconds patience{2'000};

using backtrace::frame;

// Not the engine that calls a task, nor what our headers make of its types;
// inlined, that may have lost its namespace (with -g1).
bool is_users(const frame& f) {
  const std::string_view name = f.function.name;
  return !f.is_library && !name.starts_with("esp::")
         && !name.starts_with("std::") && !name.starts_with("boost::")
         && f.file.find("/include/esp/") == std::string::npos;
}

std::string offset_of(const frame& f) {
  char digits[2 * sizeof f.offset];
  const auto end
      = std::to_chars(digits, digits + sizeof digits, f.offset, 16).ptr;
  return "0x" + std::string(digits, end);
}

std::string end_of(const std::string& path) {
  if (path.size() <= max_file)
    return path;
  const auto at = path.find('/', path.size() - max_file);
  return at == std::string::npos ? path.substr(path.size() - max_file)
                                 : "..." + path.substr(at);
}

term entry(const frame& f) {
  static const atom file("file"), line("line");
  const term where
      = f.line == 0
            ? term()
            : term::list({term::tuple({file, term::string(end_of(f.file))}),
                          term::tuple({line, term::integer(f.line)})});
  return term::tuple(
      {atom(f.image.empty() ? "unknown" : f.image),
       atom(f.function.name.empty() ? offset_of(f) : f.function.name),
       term::integer(f.function.arity), where});
}

term looked_up() {
  auto addresses = backtrace::thrown_at();
  // What called into a plugin is ours, and need not be looked up.
  const auto callers
      = std::find_if(addresses.rbegin(), addresses.rend(), [](auto a) {
          return !backtrace::image_name(reinterpret_cast<void*>(a - 1)).empty();
        }).base();
  if (callers != addresses.begin())
    addresses.erase(callers, addresses.end());
  auto frames = backtrace::frames_of(addresses, patience);
  const auto outermost
      = std::find_if(frames.rbegin(), frames.rend(), is_users).base();
  if (outermost != frames.begin()) // else all of it is ours: a mistake of ours
    frames.erase(outermost, frames.end());
  std::erase_if(frames, [](const frame& f) {
    return f.is_library && f.function.name.empty();
  });
  if (frames.size() > max_entries)
    frames.resize(max_entries);
  std::vector<term> entries;
  for (const frame& f : frames)
    entries.push_back(entry(f));
  return term::list(entries);
}

} // namespace

// Where it is called, in handlers of noexcept functions, a report without a stack
// is better than none.
term stack_of_throw() {
  try {
    return looked_up();
  } catch (...) {
    return {};
  }
}

} // namespace esp::node
