// Plugins by name: the current image, that new processes get their tasks from.
// Older images live on in the processes that hold them.

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
  // The same, unless the file's contents are those of the current image.
  result<image_ptr> renew(const std::filesystem::path& file);
  // There is no current image of that name any more; false: there was none.
  bool unload(std::string_view plugin);
  image_ptr find(std::string_view plugin) const;
  std::vector<image_ptr> all() const;
  // Those that were current once and live.
  std::vector<image_ptr> old() const;

  // Asked before an image becomes current, one at a time: for what else is to
  // know of it. Set before the first load.
  std::function<result<void>(const image_ptr&)> on_load;
  // What on_load has made known of that plugin is to be forgotten.
  std::function<void(std::string_view plugin)> on_unload;

private:
  result<image_ptr> make_current(image_ptr loaded);

  std::mutex loading_;
  mutable std::mutex mutex_;
  std::map<std::string, image_ptr, std::less<>> images_;
  std::vector<std::weak_ptr<const image>> old_;
};

} // namespace esp::plugin
