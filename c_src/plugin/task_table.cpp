#include "plugin/task_table.hpp"

namespace esp::plugin {

result<image_ptr> task_table::load(const std::filesystem::path& file) {
  auto loaded = image::load(file);
  if (!loaded)
    return loaded;
  const std::lock_guard lock(mutex_);
  images_[(*loaded)->name()] = *loaded;
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
