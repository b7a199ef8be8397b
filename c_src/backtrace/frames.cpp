#include "backtrace/frames.hpp"

#include "backtrace/debug_info.hpp"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <dlfcn.h>
#include <filesystem>
#include <link.h>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <unordered_map>

namespace esp::backtrace {

namespace {

constexpr std::size_t max_known = 10'000; // addresses

// One object that the loader has mapped.
struct mapping {
  std::uintptr_t base = 0, begin = 0, end = 0;
  std::string path;
};

std::optional<mapping> mapping_of(std::uintptr_t address) {
  struct search {
    std::uintptr_t address;
    mapping found;
  } s{address, {}};
  const auto look = [](dl_phdr_info* info, std::size_t, void* arg) {
    auto& to = *static_cast<search*>(arg);
    mapping m;
    m.base = info->dlpi_addr;
    bool is_it = false;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
      const auto& h = info->dlpi_phdr[i];
      if (h.p_type != PT_LOAD)
        continue;
      const auto begin = m.base + h.p_vaddr, end = begin + h.p_memsz;
      is_it = is_it || (begin <= to.address && to.address < end);
      m.begin = m.end == 0 ? begin : std::min(m.begin, begin);
      m.end = std::max(m.end, end);
    }
    if (!is_it)
      return 0;
    m.path = info->dlpi_name;
    to.found = std::move(m);
    return 1;
  };
  return ::dl_iterate_phdr(look, &s) == 1 ? std::optional(std::move(s.found))
                                          : std::nullopt;
}

std::string name_of_file(const std::string& path) {
  const auto name = std::filesystem::path(path).filename().string();
  return name.substr(0, name.find(".so"));
}

// Of an executable's own image the path is empty.
std::string name_of_executable() {
  std::error_code ignored;
  return name_of_file(
      std::filesystem::read_symlink("/proc/self/exe", ignored).string());
}

struct request {
  std::vector<std::uintptr_t> addresses;
  bool is_done = false;
};

class reader {
public:
  reader() { std::thread([this] { read_on(); }).detach(); }

  std::vector<frame> frames_of(const std::vector<std::uintptr_t>& addresses,
                               std::chrono::milliseconds patience) {
    std::unique_lock lock(mutex_);
    const auto is_known
        = [this](std::uintptr_t a) { return known_.contains(a); };
    if (!std::ranges::all_of(addresses, is_known)) {
      const auto r = std::make_shared<request>(request{addresses});
      requests_.push_back(r);
      came_.notify_one();
      done_.wait_for(lock, patience, [&r] { return r->is_done; });
    }
    std::vector<frame> all;
    for (const auto a : addresses) {
      const auto it = known_.find(a);
      if (it == known_.end())
        all.push_back(frame{a});
      else
        all.insert(all.end(), it->second.begin(), it->second.end());
    }
    return all;
  }

  void name(std::uintptr_t address, std::string name) {
    const std::lock_guard lock(mutex_);
    if (auto m = mapping_of(address))
      named_[m->end] = {std::move(*m), std::move(name)};
  }

  std::string name_of(std::uintptr_t address) {
    const std::lock_guard lock(mutex_);
    const auto* const n = named_at(address);
    return n != nullptr ? n->name : std::string();
  }

  void forget(std::uintptr_t address) {
    const std::lock_guard reading(reading_);
    const std::lock_guard lock(mutex_);
    const auto* const n = named_at(address);
    if (n == nullptr)
      return;
    const mapping m = n->where;
    named_.erase(m.end);
    files_.erase(m.base);
    std::erase_if(known_, [&m](const auto& k) {
      return m.begin <= k.first && k.first <= m.end;
    });
  }

private:
  struct named {
    mapping where;
    std::string name;
  };

  const named* named_at(std::uintptr_t address) const { // under mutex_
    const auto it = named_.upper_bound(address);
    return it != named_.end() && it->second.where.begin <= address
               ? &it->second
               : nullptr;
  }

  [[noreturn]] void read_on() {
    for (;;) {
      std::shared_ptr<request> r;
      {
        std::unique_lock lock(mutex_);
        came_.wait(lock, [this] { return !requests_.empty(); });
        r = std::move(requests_.front());
        requests_.pop_front();
        if (known_.size() > max_known)
          known_.clear();
      }
      for (const auto a : r->addresses) {
        const std::lock_guard reading(reading_);
        {
          const std::lock_guard lock(mutex_);
          if (known_.contains(a))
            continue;
        }
        auto calls = look_up(a);
        const std::lock_guard lock(mutex_);
        known_[a] = std::move(calls);
      }
      const std::lock_guard lock(mutex_);
      r->is_done = true;
      done_.notify_all();
    }
  }

  // With reading_ held. The call is before the address that it returns to.
  std::vector<frame> look_up(std::uintptr_t returns_to) {
    const std::uintptr_t address = returns_to - 1;
    const auto m = mapping_of(address);
    if (!m)
      return {frame{address}};
    const bool is_executable = m->path.empty();
    frame f{address - m->base};
    f.image = is_executable ? name_of_executable() : name_of(m->begin);
    f.is_library = f.image.empty();
    if (f.is_library) {
      Dl_info info{};
      f.image = name_of_file(m->path);
      if (::dladdr(reinterpret_cast<void*>(address), &info) != 0
          && info.dli_sname != nullptr)
        f.function = signature_of(info.dli_sname);
      return {f};
    }
    auto& file = files_[m->base];
    if (!file)
      file = std::make_unique<debug_info>(is_executable ? "/proc/self/exe"
                                                        : m->path);
    std::vector<frame> all;
    for (auto& c : file->at(f.offset)) {
      f.function = std::move(c.function);
      f.file = std::move(c.file);
      f.line = c.line;
      all.push_back(f);
    }
    return all.empty() ? std::vector{f} : all;
  }

  std::mutex mutex_;
  std::condition_variable came_, done_;
  std::deque<std::shared_ptr<request>> requests_;
  std::unordered_map<std::uintptr_t, std::vector<frame>> known_;
  std::map<std::uintptr_t, named> named_; // by where they end

  // Held while an image is looked into: it stays mapped. Before mutex_.
  std::mutex reading_;
  std::unordered_map<std::uintptr_t, std::unique_ptr<debug_info>> files_;
};

// Never destroyed: its thread is never joined.
reader& the_reader() {
  static auto* const r = new reader;
  return *r;
}

std::uintptr_t number(const void* address) {
  return reinterpret_cast<std::uintptr_t>(address);
}

} // namespace

std::vector<frame> frames_of(const std::vector<std::uintptr_t>& addresses,
                             std::chrono::milliseconds patience) {
  if (addresses.empty())
    return {};
  return the_reader().frames_of(addresses, patience);
}

void name_image(const void* address, std::string name) {
  the_reader().name(number(address), std::move(name));
}

void forget_image(const void* address) { the_reader().forget(number(address)); }

std::string image_name(const void* address) {
  return the_reader().name_of(number(address));
}

} // namespace esp::backtrace
