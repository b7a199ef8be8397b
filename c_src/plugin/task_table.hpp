// Plugins by name: the image that new processes get their tasks from. Older
// images live on in the processes that hold them.

#pragma once

#include "plugin/image.hpp"

#include <functional>
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
  // Loads and makes it the current image of its name, unless `on_load` says no.
  result<image_ptr> load(const std::filesystem::path& file);
  image_ptr find(std::string_view plugin) const;
  std::vector<image_ptr> all() const;

  // Asked before an image becomes current, one at a time: for what else is to
  // know of it. Set before the first load.
  std::function<result<void>(const image_ptr&)> on_load;

private:
  std::mutex loading_;
  mutable std::mutex mutex_;
  std::map<std::string, image_ptr, std::less<>> images_;
};

} // namespace esp::plugin
