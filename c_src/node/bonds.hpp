// The links, or the monitors, of one process. Most have one or two, which a
// vector finds fastest; a process that 100,000 others watch must not make
// each of their signals look through all of them.

#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace esp::node {

// What an entry is found by: the type of its key().
template <class Entry>
using bond_key =
    std::remove_cvref_t<decltype(std::declval<const Entry&>().key())>;

// One entry a key.
template <class Entry, class Hash = std::hash<bond_key<Entry>>>
class bonds {
public:
  using key_type = bond_key<Entry>;

  bool empty() const noexcept { return all_.empty(); }
  std::size_t size() const noexcept { return all_.size(); }
  // In no particular order.
  auto begin() const noexcept { return all_.begin(); }
  auto end() const noexcept { return all_.end(); }

  // Until the next change.
  Entry* find(const key_type& k) noexcept {
    if (!index_) {
      for (auto& e : all_)
        if (e.key() == k)
          return &e;
      return nullptr;
    }
    const auto at = index_->find(k);
    return at == index_->end() ? nullptr : &all_[at->second];
  }

  // Nothing if there is one with its key.
  void add(Entry e) {
    if (find(e.key()) != nullptr)
      return;
    if (index_)
      index_->emplace(e.key(), all_.size());
    all_.push_back(std::move(e));
    if (!index_ && all_.size() > few)
      make_index();
  }

  void erase(Entry* e) noexcept {
    if (index_) {
      index_->erase(e->key());
      if (e != &all_.back())
        (*index_)[all_.back().key()] =
            static_cast<std::size_t>(e - all_.data());
    }
    if (e != &all_.back())
      *e = std::move(all_.back());
    all_.pop_back();
  }

  template <class Predicate>
  void erase_if(Predicate&& p) {
    if (std::erase_if(all_, p) == 0)
      return;
    index_.reset();
    if (all_.size() > few)
      make_index();
  }

private:
  using places = std::unordered_map<key_type, std::size_t, Hash>;
  static constexpr std::size_t few = 32;

  void make_index() {
    auto index = std::make_unique<places>();
    for (std::size_t i = 0; i < all_.size(); ++i)
      index->emplace(all_[i].key(), i);
    index_ = std::move(index);
  }

  std::vector<Entry> all_;
  std::unique_ptr<places> index_;
};

} // namespace esp::node
