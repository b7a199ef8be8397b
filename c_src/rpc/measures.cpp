#include "rpc/measures.hpp"

#include "node/pid_table.hpp"
#include "rpc/bifs.hpp"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>

namespace esp::served {

namespace {

using clock = std::chrono::steady_clock;

// Of the OS process, near enough: before main().
const clock::time_point start = clock::now();

const atom malloc_("malloc");

term sized(std::string_view name, std::uint64_t n) {
  return term::tuple({atom(name), integer(n), integer(n), integer(n)});
}

// {mbcs | sbcs, ...}: carriers of many blocks are malloc's arenas, of one its
// mappings.
term carriers(std::string_view kind, std::uint64_t used, std::uint64_t held) {
  const term blocks = term::list(
      {term::tuple({malloc_, term::list({sized("size", used)})})});
  return term::tuple(
      {atom(kind), term::list({term::tuple({atom("blocks"), blocks}),
                               sized("carriers_size", held)})});
}

term instances() {
  const auto m = ::mallinfo2();
  return term::list({term::tuple(
      {atom("instance"), integer(0),
       term::list({carriers("mbcs", m.uordblks, m.arena),
                   carriers("sbcs", m.hblkhd, m.hblkhd)})})});
}

} // namespace

usage read_usage(const node::node& home) {
  usage u;
  std::uint64_t size = 0, shared = 0;
  std::ifstream statm("/proc/self/statm");
  statm >> size >> u.resident >> shared >> u.code;
  const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  u.resident *= page;
  u.code *= page;
  u.processes = std::min<std::uint64_t>(
      home.table().size() * sizeof(node::process), u.resident);
  return u;
}

term allocators() {
  return term::list(std::initializer_list<term>{malloc_});
}

std::optional<term> allocator_sizes(const term& which) {
  if (which == term(malloc_))
    return instances();
  const auto all = which.as_list();
  if (!all)
    return std::nullopt;
  std::vector<term> sizes;
  for (const term& one : *all) {
    if (one != term(malloc_))
      return std::nullopt;
    sizes.push_back(term::tuple({malloc_, instances()}));
  }
  return term::list(sizes);
}

std::uint64_t start_time_ns() {
  return static_cast<std::uint64_t>(
      std::chrono::nanoseconds(start.time_since_epoch()).count());
}

std::uint64_t since_start_ns() {
  return static_cast<std::uint64_t>(
      std::chrono::nanoseconds(clock::now() - start).count());
}

} // namespace esp::served
