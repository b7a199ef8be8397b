// What return addresses mean: names of functions, and where in the sources.

#pragma once

#include "backtrace/signature.hpp"

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace esp::backtrace {

struct frame {
  std::uintptr_t offset = 0; // in the image's file, as addr2line wants it
  std::string image = {};    // the name it was given, else that of its file
  signature function = {};   // without a name if nothing is known
  std::string file = {};     // of the source; empty if not known, and line 0
  unsigned line = 0;
  bool is_library = false; // neither the executable nor a named image
};

// The calls behind these return addresses, innermost first, inlined ones
// included. On any thread and any stack: the files are read, the first time an
// address is asked for, by a thread of this room's own. If that takes longer
// than `patience`, what is not known yet has no names. Of libraries only the
// names that they export are known.
std::vector<frame> frames_of(const std::vector<std::uintptr_t>& addresses,
                             std::chrono::milliseconds patience);

// The image that `address` is in, of a file whose path may say nothing to
// anyone, is to be called `name`.
void name_image(const void* address, std::string name);
// It is to be unmapped: waits if its file is being read, and lets go of it.
void forget_image(const void* address);
// What the image that `address` is in was named; empty if it was not.
std::string image_name(const void* address);

} // namespace esp::backtrace
