#include "plugin/elf.hpp"

#include <algorithm>
#include <cstring>
#include <elf.h>
#include <fstream>
#include <iterator>
#include <optional>

namespace esp::plugin {

namespace {

using bytes = std::vector<char>;

template <class T>
std::optional<T> read_at(const bytes& b, std::uint64_t offset) {
  if (offset > b.size() || b.size() - offset < sizeof(T))
    return std::nullopt;
  T t;
  std::memcpy(&t, b.data() + offset, sizeof t);
  return t;
}

std::optional<std::vector<Elf64_Phdr>> segments(const bytes& b) {
  const auto h = read_at<Elf64_Ehdr>(b, 0);
  if (!h || std::memcmp(h->e_ident, ELFMAG, SELFMAG) != 0
      || h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_type != ET_DYN)
    return std::nullopt;
  std::vector<Elf64_Phdr> all;
  for (std::uint64_t i = 0; i < h->e_phnum; ++i) {
    const auto p = read_at<Elf64_Phdr>(b, h->e_phoff + i * sizeof(Elf64_Phdr));
    if (!p)
      return std::nullopt;
    all.push_back(*p);
  }
  return all;
}

std::optional<std::uint64_t> file_offset(const std::vector<Elf64_Phdr>& all,
                                         std::uint64_t address) {
  for (const auto& p : all)
    if (p.p_type == PT_LOAD && address >= p.p_vaddr
        && address - p.p_vaddr < p.p_filesz)
      return address - p.p_vaddr + p.p_offset;
  return std::nullopt;
}

} // namespace

result<std::vector<std::string>>
needed_libraries(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in)
    return {errc::not_found, "no such file: " + file.string()};
  const bytes b((std::istreambuf_iterator<char>(in)),
                std::istreambuf_iterator<char>());
  const error bad{errc::malformed,
                  file.string() + " is not a 64-bit ELF shared object"};
  const auto all = segments(b);
  if (!all)
    return bad;
  const auto dynamic
      = std::find_if(all->begin(), all->end(), [](const Elf64_Phdr& p) {
          return p.p_type == PT_DYNAMIC;
        });
  if (dynamic == all->end())
    return bad;
  std::vector<std::uint64_t> names;
  std::optional<std::uint64_t> strings;
  for (std::uint64_t at = dynamic->p_offset;
       at < dynamic->p_offset + dynamic->p_filesz; at += sizeof(Elf64_Dyn)) {
    const auto d = read_at<Elf64_Dyn>(b, at);
    if (!d)
      return bad;
    if (d->d_tag == DT_NULL)
      break;
    if (d->d_tag == DT_NEEDED)
      names.push_back(d->d_un.d_val);
    if (d->d_tag == DT_STRTAB)
      strings = file_offset(*all, d->d_un.d_ptr);
  }
  if (!strings)
    return bad;
  std::vector<std::string> needed;
  for (const auto n : names) {
    const std::uint64_t start = *strings + n;
    if (start >= b.size())
      return bad;
    const auto end = std::find(b.begin() + static_cast<std::ptrdiff_t>(start),
                               b.end(), '\0');
    if (end == b.end())
      return bad;
    needed.emplace_back(b.begin() + static_cast<std::ptrdiff_t>(start), end);
  }
  return needed;
}

} // namespace esp::plugin
