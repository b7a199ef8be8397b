// Plugins by name: the image that new processes get their tasks from. Older
// images live on in the processes that hold them.

#pragma once

#include "plugin/image.hpp"

#include <map>
#include <mutex>

namespace esp::plugin {

// One task, and the image that must stay mapped while it is used.
struct task_ref {
  image_ptr from;
  const detail::task_entry* entry = nullptr;
};

class task_table { // thread safe
public:
  // Loads and makes it the current image of its name.
  result<image_ptr> load(const std::filesystem::path& file);
  image_ptr find(std::string_view plugin) const;
  std::vector<image_ptr> all() const;

private:
  mutable std::mutex mutex_;
  std::map<std::string, image_ptr, std::less<>> images_;
};

} // namespace esp::plugin
