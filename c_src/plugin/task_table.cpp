#include "plugin/task_table.hpp"

#include <utility>

namespace esp::plugin {

result<image_ptr> task_table::load(const std::filesystem::path& file) {
  auto loaded = image::load(file);
  return loaded ? make_current(std::move(*loaded)) : loaded;
}

result<image_ptr> task_table::renew(const std::filesystem::path& file) {
  auto loaded = image::load(file);
  if (!loaded)
    return loaded;
  if (auto current = find((*loaded)->name());
      current && current->md5() == (*loaded)->md5())
    return current;
  return make_current(std::move(*loaded));
}

result<image_ptr> task_table::make_current(image_ptr loaded) {
  image_ptr old = loaded; // what it replaces goes with no lock held
  const std::lock_guard order(loading_);
  if (on_load)
    if (const auto agreed = on_load(loaded); !agreed)
      return agreed.error();
  const std::lock_guard lock(mutex_);
  std::swap(images_[loaded->name()], old);
  std::erase_if(old_, [](const auto& each) { return each.expired(); });
  if (old)
    old_.push_back(old);
  return loaded;
}

bool task_table::unload(std::string_view plugin) {
  image_ptr old;
  const std::lock_guard order(loading_);
  {
    const std::lock_guard lock(mutex_);
    const auto it = images_.find(plugin);
    if (it == images_.end())
      return false;
    old = std::move(it->second);
    images_.erase(it);
    old_.push_back(old);
  }
  if (on_unload)
    on_unload(plugin);
  return true;
}

image_ptr task_table::find(std::string_view plugin) const {
  const std::lock_guard lock(mutex_);
  const auto it = images_.find(plugin);
  return it == images_.end() ? nullptr : it->second;
}

std::vector<image_ptr> task_table::all() const {
  const std::lock_guard lock(mutex_);
  std::vector<image_ptr> found;
  for (const auto& [name, image] : images_)
    found.push_back(image);
  return found;
}

std::vector<image_ptr> task_table::old() const {
  const std::lock_guard lock(mutex_);
  std::vector<image_ptr> found;
  for (const auto& each : old_)
    if (auto image = each.lock())
      found.push_back(std::move(image));
  return found;
}

} // namespace esp::plugin
