#include "term/atom_table.hpp"

#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <random>
#include <vector>

namespace esp::etf {
namespace {

constexpr std::size_t chunk_size = 1024;
constexpr std::size_t shard_count = 64;

struct entry {
  const char* text = nullptr;
  std::uint32_t size = 0;
  std::uint64_t hash = 0;
};

// Open addressing; a slot holds index + 1, or 0. A grown table replaces the
// smaller one, which stays readable for those who still probe it.
struct slots {
  explicit slots(std::size_t n)
      : mask(n - 1), at(new std::atomic<std::uint32_t>[n]()) {}
  std::size_t mask;
  std::unique_ptr<std::atomic<std::uint32_t>[]> at;
};

struct shard {
  std::mutex lock;
  std::atomic<slots*> current{nullptr};
  std::vector<std::unique_ptr<slots>> all;
  std::size_t used = 0;
  std::vector<std::unique_ptr<char[]>> texts;
  std::size_t text_left = 0;
  char* text_at = nullptr;
};

class table {
public:
  table() {
    std::random_device device;
    seed_ = (std::uint64_t{device()} << 32) | device();
    for (shard& s : shards_) {
      s.all.push_back(std::make_unique<slots>(64));
      s.current.store(s.all.back().get(), std::memory_order_release);
    }
    (void)intern({}); // index 0 is ''
  }

  std::uint64_t seed() const noexcept { return seed_; }
  std::size_t count() const noexcept {
    return count_.load(std::memory_order_relaxed);
  }
  std::size_t bytes() const noexcept {
    return bytes_.load(std::memory_order_relaxed);
  }

  const entry& at(std::uint32_t index) const noexcept {
    return chunks_[index / chunk_size].load(
        std::memory_order_acquire)[index % chunk_size];
  }

  std::uint64_t hash(std::string_view text) const noexcept {
    std::uint64_t h = mix(seed_, text.size());
    std::size_t i = 0;
    for (; i + 8 <= text.size(); i += 8) {
      std::uint64_t word;
      std::memcpy(&word, text.data() + i, 8);
      h = mix(h, word);
    }
    if (i < text.size()) {
      std::uint64_t word = 0;
      std::memcpy(&word, text.data() + i, text.size() - i);
      h = mix(h, word);
    }
    return h;
  }

  result<std::uint32_t> intern(std::string_view text) {
    const std::uint64_t h = hash(text);
    shard& s = shards_[h % shard_count];
    if (const auto known =
            find(*s.current.load(std::memory_order_acquire), text, h)) {
      return known - 1;
    }
    const std::lock_guard guard(s.lock);
    slots* t = s.current.load(std::memory_order_relaxed);
    if (const auto known = find(*t, text, h)) {
      return known - 1;
    }
    if (bytes_.load(std::memory_order_relaxed) + text.size() > max_atom_bytes
        || count_.load(std::memory_order_relaxed) >= max_atoms) {
      return {errc::system_limit, "the atom table is full"};
    }
    const std::uint32_t index = count_.fetch_add(1);
    if (index >= max_atoms) {
      count_.fetch_sub(1);
      return {errc::system_limit, "the atom table is full"};
    }
    bytes_.fetch_add(text.size(), std::memory_order_relaxed);
    slot_of(index) = {copy(s, text), static_cast<std::uint32_t>(text.size()),
                      h};
    if ((s.used + 1) * 2 > t->mask) {
      t = grow(s);
    }
    insert(*t, index, h);
    ++s.used;
    return index;
  }

private:
  std::uint32_t find(const slots& t, std::string_view text,
                     std::uint64_t h) const noexcept {
    for (std::size_t i = (h / shard_count) & t.mask;; i = (i + 1) & t.mask) {
      const std::uint32_t v = t.at[i].load(std::memory_order_acquire);
      if (v == 0) {
        return 0;
      }
      const entry& e = at(v - 1);
      if (e.hash == h && std::string_view{e.text, e.size} == text) {
        return v;
      }
    }
  }

  static void insert(slots& t, std::uint32_t index, std::uint64_t h) noexcept {
    std::size_t i = (h / shard_count) & t.mask;
    while (t.at[i].load(std::memory_order_relaxed) != 0) {
      i = (i + 1) & t.mask;
    }
    t.at[i].store(index + 1, std::memory_order_release);
  }

  slots* grow(shard& s) {
    const slots& old = *s.all.back();
    auto bigger = std::make_unique<slots>((old.mask + 1) * 2);
    for (std::size_t i = 0; i <= old.mask; ++i) {
      if (const auto v = old.at[i].load(std::memory_order_relaxed)) {
        insert(*bigger, v - 1, at(v - 1).hash);
      }
    }
    s.all.push_back(std::move(bigger));
    s.current.store(s.all.back().get(), std::memory_order_release);
    return s.all.back().get();
  }

  static const char* copy(shard& s, std::string_view text) {
    if (text.empty()) {
      return "";
    }
    if (s.text_left < text.size()) {
      constexpr std::size_t piece = 16 * 1024;
      s.texts.push_back(std::make_unique<char[]>(piece));
      s.text_at = s.texts.back().get();
      s.text_left = piece;
    }
    char* to = s.text_at;
    std::memcpy(to, text.data(), text.size());
    s.text_at += text.size();
    s.text_left -= text.size();
    return to;
  }

  // Two shards may want the same new chunk at once; the loser's is dropped.
  entry& slot_of(std::uint32_t index) {
    auto& chunk = chunks_[index / chunk_size];
    entry* c = chunk.load(std::memory_order_acquire);
    if (c == nullptr) {
      auto* fresh = new entry[chunk_size];
      if (chunk.compare_exchange_strong(c, fresh, std::memory_order_acq_rel)) {
        c = fresh;
      } else {
        delete[] fresh;
      }
    }
    return c[index % chunk_size];
  }

  std::uint64_t seed_ = 0;
  std::array<shard, shard_count> shards_;
  std::array<std::atomic<entry*>, max_atoms / chunk_size> chunks_{};
  std::atomic<std::uint32_t> count_{0};
  std::atomic<std::size_t> bytes_{0};
};

// Never destroyed: other threads and static destructors may still ask names.
table& the_table() {
  static table& t = *new table;
  return t;
}

} // namespace

bool is_atom_text(std::string_view utf8) noexcept {
  std::size_t characters = 0;
  const auto* p = reinterpret_cast<const unsigned char*>(utf8.data());
  const auto* const end = p + utf8.size();
  const auto is_more = [](unsigned char c) { return (c & 0xC0) == 0x80; };
  while (p != end) {
    if (++characters > max_atom_characters) {
      return false;
    }
    const unsigned char c = *p;
    const auto left = end - p;
    if (c < 0x80) {
      p += 1;
    } else if (c >= 0xC2 && c < 0xE0) {
      if (left < 2 || !is_more(p[1])) {
        return false;
      }
      p += 2;
    } else if (c >= 0xE0 && c < 0xF0) {
      if (left < 3 || !is_more(p[1]) || !is_more(p[2])
          || (c == 0xE0 && p[1] < 0xA0) || (c == 0xED && p[1] >= 0xA0)) {
        return false;
      }
      p += 3;
    } else if (c >= 0xF0 && c < 0xF5) {
      if (left < 4 || !is_more(p[1]) || !is_more(p[2]) || !is_more(p[3])
          || (c == 0xF0 && p[1] < 0x90) || (c == 0xF4 && p[1] >= 0x90)) {
        return false;
      }
      p += 4;
    } else {
      return false;
    }
  }
  return true;
}

result<std::uint32_t> intern_atom(std::string_view utf8) {
  return the_table().intern(utf8);
}

std::string_view atom_text(std::uint32_t index) noexcept {
  const entry& e = the_table().at(index);
  return {e.text, e.size};
}

std::size_t atom_count() noexcept {
  return the_table().count();
}

std::size_t atom_text_bytes() noexcept {
  return the_table().bytes();
}

std::uint64_t hash_text(std::string_view text) noexcept {
  return the_table().hash(text);
}

std::uint64_t hash_seed() noexcept {
  return the_table().seed();
}

} // namespace esp::etf
