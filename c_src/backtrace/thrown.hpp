// Where exceptions were thrown. The C++ runtime forgets the stack of a throw
// before anyone catches it; so this room's __cxa_throw stands before the
// runtime's, in the executable and in all that it loads, and keeps the return
// addresses until the exception is destroyed. What they mean is asked for
// later, if ever: frames.hpp.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace esp::backtrace {

inline constexpr std::size_t max_depth = 32; // the innermost calls are kept

// The return addresses, innermost first, of the throw that made the exception
// being handled, on whichever thread that was; throwing it again does not
// change them. Empty outside a handler, and for an exception that was made
// without a throw. On any thread.
std::vector<std::uintptr_t> thrown_at();

} // namespace esp::backtrace
