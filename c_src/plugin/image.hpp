// One loaded version of a plugin: its tasks, and the functions it exposes. It
// stays mapped as long as anything holds it: every process that runs one of its
// tasks does, every co-op that may have values of its types under way, and every
// call of one of its functions.

#pragma once

#include "esp/error.hpp"
#include "esp/plugin.hpp"
#include "esp/rpc.hpp"

#include "base/md5.hpp"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace esp::plugin {

class image {
public:
  // Opens a private copy of `file`, so that the same path can be loaded again
  // with other contents, after a look at what it needs: a plugin that links
  // Boost would bring a second scheduler, one built for another ABI number
  // would misread what it is handed. Errors say which, naming the file. Whoever
  // is the last to let go of it may have no room for what it does at its end,
  // the destructors of its statics: that is done on a thread of its own.
  static result<std::shared_ptr<const image>>
  load(const std::filesystem::path& file);

  ~image();
  image(const image&) = delete;
  image& operator=(const image&) = delete;

  const std::string& name() const noexcept { return name_; }
  const std::string& version() const noexcept { return version_; }
  const base::md5_digest& md5() const noexcept { return md5_; } // of the file
  const std::filesystem::path& file() const noexcept { return file_; }
  const std::vector<detail::task_entry>& tasks() const noexcept {
    return tasks_;
  }
  const std::vector<detail::function_entry>& functions() const noexcept {
    return functions_;
  }
  const detail::task_entry* find(std::string_view task) const noexcept;

  // Those that have come to their end and are mapped all the same: of
  // thread-locals with destructors, or unique symbols. By name and version.
  struct remains {
    std::string name, version;
    base::md5_digest md5;
    std::filesystem::path file;
  };
  static std::vector<remains> pinned();

private:
  image() = default;
  bool is_mapped() const noexcept;
  result<void> register_all(const detail::plugin_entry& entry);

  void* handle_ = nullptr;
  const detail::plugin_entry* entry_ = nullptr; // in the image
  int descriptor_ = -1; // of the private copy
  std::string name_, version_;
  base::md5_digest md5_{};
  std::filesystem::path file_;
  std::vector<detail::task_entry> tasks_;
  std::vector<detail::function_entry> functions_;
};

using image_ptr = std::shared_ptr<const image>;

} // namespace esp::plugin
