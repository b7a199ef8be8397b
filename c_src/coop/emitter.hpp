// What an esp::outlet hands results to: the host's side of it.

#pragma once

#include "esp/datum.hpp"
#include "esp/term.hpp"

#include <string_view>

namespace esp::coop {

class emitter {
public:
  virtual void emit(datum&& d) = 0;
  virtual bool emit_to(std::string_view node, datum&& d) = 0; // false: no such
  virtual void emit_to(const pid& late, datum&& d) = 0;

protected:
  ~emitter() = default;
};

} // namespace esp::coop
