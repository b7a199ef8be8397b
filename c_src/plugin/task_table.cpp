#include "plugin/task_table.hpp"

#include <utility>

namespace esp::plugin {

result<image_ptr> task_table::load(const std::filesystem::path& file) {
  auto loaded = image::load(file);
  if (!loaded)
    return loaded;
  image_ptr old = *loaded; // what it replaces goes with no lock held
  const std::lock_guard order(loading_);
  if (on_load)
    if (const auto agreed = on_load(*loaded); !agreed)
      return agreed.error();
  const std::lock_guard lock(mutex_);
  std::swap(images_[(*loaded)->name()], old);
  return loaded;
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

} // namespace esp::plugin
