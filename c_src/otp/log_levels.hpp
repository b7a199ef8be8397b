// What the loggers of the connected VMs let by: as they have told us, so that
// none is asked for each event. VMs that have said nothing, since nobody there
// runs the application erlangsp, get every event and decide themselves.

#pragma once

#include "esp/process.hpp"

#include <map>
#include <shared_mutex>

namespace esp::otp {

class log_levels {
public:
  // {'$coop', log_levels, Primary, [{Module, Level}]} from a process of that
  // VM. False, and no change, if it is malformed or has over 10,000 modules.
  bool set(const pid& from, const term& message);
  // As logger:allow/2 there, in that life of the node.
  bool allows(atom vm, std::uint32_t creation, level l, atom module) const;
  // #{Node => {Primary, [{Module, Level}]}}
  term shown() const;

private:
  struct table {
    std::uint32_t creation;
    int primary;
    std::map<atom, int> modules;
    term as_told;
  };
  mutable std::shared_mutex mutex_;
  std::map<atom, table> tables_; // by node
};

// The atom of a level, and the lowest level that an atom lets by: `all` is
// debug's, and `none` is above emergency's. -1: no such level.
atom atom_of(level l);
int lowest_of(const term& level);

} // namespace esp::otp
