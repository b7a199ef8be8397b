// The functions and lines of one ELF file, from its debugging information
// (DWARF, by elfutils' libdw) and its symbol table; from whichever it has.

#pragma once

#include "backtrace/signature.hpp"

#include <cstdint>
#include <string>
#include <vector>

struct Dwarf;
struct Elf;

namespace esp::backtrace {

class debug_info {
public:
  // What cannot be read knows nothing.
  explicit debug_info(const std::string& path);
  ~debug_info();
  debug_info(const debug_info&) = delete;
  debug_info& operator=(const debug_info&) = delete;

  struct call {
    signature function;
    std::string file; // empty without debugging information
    unsigned line = 0;
  };
  // What runs at an address of the file: the function, and before it those
  // that were inlined into it there, innermost first. Empty if that is not
  // known. Needs a thread's stack, not a task's. One caller at a time.
  std::vector<call> at(std::uintptr_t address) const;

private:
  struct symbol {
    std::uintptr_t begin, end;
    const char* name;
  };
  void read_symbols();
  const symbol* symbol_at(std::uintptr_t address) const;

  int descriptor_;
  Elf* elf_ = nullptr;
  Dwarf* dwarf_ = nullptr;
  std::vector<symbol> symbols_; // of functions, by address
};

} // namespace esp::backtrace
