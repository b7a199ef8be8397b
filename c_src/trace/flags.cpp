#include "trace/flags.hpp"

#include <string_view>
#include <vector>

namespace esp::trace {

namespace {

// In the order in which trace_info/2 lists them.
const struct {
  std::string_view name;
  flags bit;
} names[] = {
    {"send", flag::send},
    {"receive", flag::receive},
    {"call", flag::call},
    {"procs", flag::procs},
    {"running", flag::running},
    {"exiting", flag::exiting},
    {"garbage_collection", flag::garbage_collection},
    {"ports", flag::ports},
    {"running_ports", flag::running_ports},
    {"set_on_spawn", flag::set_on_spawn},
    {"set_on_first_spawn", flag::set_on_first_spawn},
    {"set_on_link", flag::set_on_link},
    {"set_on_first_link", flag::set_on_first_link},
    {"timestamp", flag::timestamp},
    {"monotonic_timestamp", flag::monotonic_timestamp},
    {"strict_monotonic_timestamp", flag::strict_monotonic_timestamp},
    {"arity", flag::arity},
    {"return_to", flag::return_to},
    {"silent", flag::silent},
};

} // namespace

std::optional<flags> flag_of(const term& name) {
  if (name.is_atom("all"))
    return flag::all;
  if (name.is_atom("running_procs"))
    return flag::running;
  for (const auto& n : names)
    if (name.is_atom(n.name))
      return n.bit;
  return std::nullopt;
}

term list_of(flags f) {
  std::vector<term> all;
  for (const auto& n : names)
    if ((f & n.bit) != 0)
      all.push_back(atom(n.name));
  return term::list(all);
}

} // namespace esp::trace
