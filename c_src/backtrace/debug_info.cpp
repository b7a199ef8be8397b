#include "backtrace/debug_info.hpp"

#include <algorithm>
#include <cstdlib>
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <fcntl.h>
#include <gelf.h>
#include <memory>
#include <optional>
#include <unistd.h>

namespace esp::backtrace {

namespace {

// A scope and what is around it, innermost first.
std::vector<Dwarf_Die> scopes_of(Dwarf_Die* die) {
  Dwarf_Die* all = nullptr;
  const int n = ::dwarf_getscopes_die(die, &all);
  const std::unique_ptr<Dwarf_Die, decltype(&std::free)> owner(all,
                                                               &std::free);
  return n > 0 ? std::vector<Dwarf_Die>(all, all + n)
               : std::vector<Dwarf_Die>();
}

std::vector<Dwarf_Die> scopes_at(Dwarf_Die* unit, Dwarf_Addr address) {
  Dwarf_Die* all = nullptr;
  const int n = ::dwarf_getscopes(unit, address, &all);
  const std::unique_ptr<Dwarf_Die, decltype(&std::free)> owner(all,
                                                               &std::free);
  return n > 0 ? scopes_of(all) : std::vector<Dwarf_Die>();
}

// GCC says where each unit's code is; clang does not, and all are looked at.
std::optional<Dwarf_Die> unit_at(Dwarf* dwarf, Dwarf_Addr address) {
  Dwarf_Die unit;
  if (::dwarf_addrdie(dwarf, address, &unit) != nullptr)
    return unit;
  Dwarf_Off at = 0, next = 0;
  for (std::size_t header = 0;
       ::dwarf_nextcu(dwarf, at, &next, &header, nullptr, nullptr, nullptr)
       == 0;
       at = next)
    if (::dwarf_offdie(dwarf, at + header, &unit) != nullptr
        && ::dwarf_haspc(&unit, address) == 1)
      return unit;
  return std::nullopt;
}

const char* symbol_of(Dwarf_Die* die) {
  Dwarf_Attribute a;
  return ::dwarf_attr_integrate(die, DW_AT_linkage_name, &a) != nullptr
             ? ::dwarf_formstring(&a)
             : nullptr;
}

// Where it is declared, which an inlined or a separate copy refers to.
Dwarf_Die declaration_of(Dwarf_Die die) {
  for (const unsigned refers : {DW_AT_abstract_origin, DW_AT_specification}) {
    Dwarf_Attribute a;
    Dwarf_Die to;
    if (::dwarf_attr(&die, refers, &a) != nullptr
        && ::dwarf_formref_die(&a, &to) != nullptr)
      die = to;
  }
  return die;
}

// Functions that no other unit can call have no symbol once they are inlined.
signature declared(Dwarf_Die* die) {
  Dwarf_Die d = declaration_of(*die);
  signature s;
  const char* const own = ::dwarf_diename(&d);
  s.name = own != nullptr ? own : "";
  const auto around = scopes_of(&d);
  for (std::size_t i = 1; i < around.size(); ++i) {
    Dwarf_Die outer = around[i];
    const int tag = ::dwarf_tag(&outer);
    const char* const name = ::dwarf_diename(&outer);
    if (name != nullptr
        && (tag == DW_TAG_namespace || tag == DW_TAG_class_type
            || tag == DW_TAG_structure_type))
      s.name.insert(0, std::string(name) + "::");
  }
  cut_name(s.name);
  Dwarf_Die child;
  for (int more = ::dwarf_child(&d, &child); more == 0;
       more = ::dwarf_siblingof(&child, &child))
    if (::dwarf_tag(&child) == DW_TAG_formal_parameter
        && !::dwarf_hasattr(&child, DW_AT_artificial))
      ++s.arity;
  return s;
}

std::uintptr_t number(Dwarf_Die* die, unsigned attribute) {
  Dwarf_Attribute a;
  Dwarf_Word value = 0;
  if (::dwarf_attr(die, attribute, &a) == nullptr
      || ::dwarf_formudata(&a, &value) != 0)
    return 0;
  return value;
}

std::string file_of_call(Dwarf_Die* unit, Dwarf_Die* inlined) {
  Dwarf_Files* files = nullptr;
  if (::dwarf_getsrcfiles(unit, &files, nullptr) != 0)
    return {};
  const char* const name = ::dwarf_filesrc(
      files, number(inlined, DW_AT_call_file), nullptr, nullptr);
  return name != nullptr ? name : "";
}

} // namespace

debug_info::debug_info(const std::string& path)
    : descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  ::elf_version(EV_CURRENT);
  if (descriptor_ >= 0)
    elf_ = ::elf_begin(descriptor_, ELF_C_READ_MMAP, nullptr);
  if (elf_ == nullptr)
    return;
  dwarf_ = ::dwarf_begin_elf(elf_, DWARF_C_READ, nullptr);
  read_symbols();
}

debug_info::~debug_info() {
  if (dwarf_ != nullptr)
    ::dwarf_end(dwarf_);
  if (elf_ != nullptr)
    ::elf_end(elf_);
  if (descriptor_ >= 0)
    ::close(descriptor_);
}

// The dynamic table is part of the whole one, if that was not stripped off.
void debug_info::read_symbols() {
  Elf_Scn* table = nullptr;
  GElf_Shdr header{}, h;
  for (Elf_Scn* s = nullptr; (s = ::elf_nextscn(elf_, s)) != nullptr;)
    if (::gelf_getshdr(s, &h) != nullptr
        && (h.sh_type == SHT_SYMTAB
            || (h.sh_type == SHT_DYNSYM && table == nullptr)))
      table = s, header = h;
  Elf_Data* const data
      = table != nullptr ? ::elf_getdata(table, nullptr) : nullptr;
  if (data == nullptr || header.sh_entsize == 0)
    return;
  const auto n = static_cast<int>(header.sh_size / header.sh_entsize);
  for (int i = 0; i < n; ++i) {
    GElf_Sym s;
    if (::gelf_getsym(data, i, &s) == nullptr || s.st_shndx == SHN_UNDEF
        || GELF_ST_TYPE(s.st_info) != STT_FUNC)
      continue;
    if (const char* name = ::elf_strptr(elf_, header.sh_link, s.st_name))
      symbols_.push_back({s.st_value, s.st_value + s.st_size, name});
  }
  std::ranges::sort(symbols_, {}, &symbol::begin);
}

const debug_info::symbol*
debug_info::symbol_at(std::uintptr_t address) const {
  const auto next
      = std::ranges::upper_bound(symbols_, address, {}, &symbol::begin);
  if (next == symbols_.begin() || std::prev(next)->end <= address)
    return nullptr;
  return &*std::prev(next);
}

std::vector<debug_info::call> debug_info::at(std::uintptr_t address) const {
  std::vector<call> calls;
  const symbol* const known = symbol_at(address);
  auto unit = dwarf_ != nullptr ? unit_at(dwarf_, address) : std::nullopt;
  std::string file;
  unsigned line = 0;
  if (unit)
    if (Dwarf_Line* const l = ::dwarf_getsrc_die(&*unit, address)) {
      int n = 0;
      ::dwarf_lineno(l, &n);
      const char* const name = ::dwarf_linesrc(l, nullptr, nullptr);
      file = name != nullptr ? name : "";
      line = static_cast<unsigned>(n);
    }
  if (unit)
    for (Dwarf_Die& scope : scopes_at(&*unit, address)) {
      const int tag = ::dwarf_tag(&scope);
      if (tag != DW_TAG_inlined_subroutine && tag != DW_TAG_subprogram)
        continue;
      const char* name = symbol_of(&scope);
      if (tag == DW_TAG_subprogram && known != nullptr)
        name = known->name; // which a local function has as well
      calls.push_back({name != nullptr ? signature_of(name) : declared(&scope),
                       std::move(file), line});
      if (tag == DW_TAG_subprogram)
        return calls;
      file = file_of_call(&*unit, &scope);
      line = static_cast<unsigned>(number(&scope, DW_AT_call_line));
    }
  if (known != nullptr)
    calls.push_back({signature_of(known->name), std::move(file), line});
  return calls;
}

} // namespace esp::backtrace
