#include "plugin/image.hpp"

#include "backtrace/frames.hpp"
#include "plugin/elf.hpp"

#include <cstdlib>
#include <cxxabi.h>
#include <dlfcn.h>
#include <exception>
#include <fcntl.h>
#include <mutex>
#include <stdexcept>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <unordered_map>
#include <utility>

namespace esp::detail {

namespace {

// Of the image whose tasks are being registered on this thread.
thread_local std::vector<function_entry>* exposed = nullptr;

} // namespace

void add_function(const function_entry& entry) {
  if (exposed == nullptr)
    throw std::logic_error("esp::expose: called outside ESP_PLUGIN");
  for (const auto& f : *exposed)
    if (f.module == entry.module && f.name == entry.name
        && f.arity == entry.arity)
      throw std::logic_error("esp::expose: " + std::string(f.module.name())
                             + ":" + std::string(f.name.name()) + "/"
                             + std::to_string(f.arity) + " twice");
  exposed->push_back(entry);
}

void add_task(void* registry, const task_entry& entry) {
  static_cast<std::vector<task_entry>*>(registry)->push_back(entry);
}

std::string_view type_name(const char* mangled) {
  static std::mutex mutex;
  static auto* const names = new std::unordered_map<std::string, std::string>;
  const std::lock_guard lock(mutex);
  auto [it, is_new] = names->try_emplace(mangled);
  if (is_new) {
    int status = 0;
    char* const plain
        = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
    it->second = status == 0 ? plain : mangled;
    std::free(plain);
  }
  return it->second;
}

} // namespace esp::detail

namespace esp::plugin {

namespace {

std::string path_of(int descriptor) {
  return "/proc/self/fd/" + std::to_string(descriptor);
}

// Never destroyed: images may end when everything else has.
std::mutex& remains_lock() {
  static auto* const lock = new std::mutex;
  return *lock;
}
std::vector<image::remains>& all_remains() {
  static auto* const all = new std::vector<image::remains>;
  return *all;
}

// A task's stack is too small for what the loader and a plugin's statics do.
void end_on_its_own_thread(const image* i) {
  try {
    std::thread([i] { delete i; }).detach();
  } catch (const std::system_error&) { // no more threads
    delete i;
  }
}

std::vector<char> contents(int descriptor) {
  std::vector<char> all;
  struct stat s{};
  if (::fstat(descriptor, &s) != 0)
    return all;
  all.resize(static_cast<std::size_t>(s.st_size));
  for (std::size_t at = 0; at < all.size();) {
    const auto n = ::pread(descriptor, all.data() + at, all.size() - at,
                           static_cast<off_t>(at));
    if (n <= 0)
      break;
    at += static_cast<std::size_t>(n);
  }
  return all;
}

// A file in memory that nobody else sees: the loader tells objects apart by
// file, so each load is a new one, and the original may be replaced meanwhile.
class private_copy {
public:
  explicit private_copy(const std::filesystem::path& from) {
    const int in = ::open(from.c_str(), O_RDONLY | O_CLOEXEC);
    if (in < 0)
      return;
    struct stat s{};
    fd_ = ::memfd_create(from.filename().c_str(), MFD_CLOEXEC);
    if (fd_ >= 0 && ::fstat(in, &s) == 0)
      for (off_t at = 0; at < s.st_size;)
        if (::sendfile(fd_, in, &at,
                       static_cast<std::size_t>(s.st_size - at))
            <= 0)
          break;
    ::close(in);
  }
  ~private_copy() {
    if (fd_ >= 0)
      ::close(fd_);
  }
  private_copy(const private_copy&) = delete;
  private_copy& operator=(const private_copy&) = delete;

  std::string path() const { return path_of(fd_); }
  bool is_open() const { return fd_ >= 0; }
  base::md5_digest digest() const { return base::md5(contents(fd_)); }
  int release() { return std::exchange(fd_, -1); }

private:
  int fd_ = -1;
};

} // namespace

result<std::shared_ptr<const image>>
image::load(const std::filesystem::path& file) {
  const auto needed = needed_libraries(file);
  if (!needed)
    return needed.error();
  for (const auto& n : *needed)
    if (n.starts_with("libboost_"))
      return {errc::refused,
              file.string() + " needs " + n
                  + ": a plugin must not link Boost, the host has its own"};
  private_copy copy(file);
  if (!copy.is_open())
    return {errc::io, "cannot read " + file.string()};
  std::shared_ptr<image> i(new image, end_on_its_own_thread);
  i->handle_ = ::dlopen(copy.path().c_str(), RTLD_LOCAL | RTLD_NOW);
  if (i->handle_ == nullptr) {
    std::string why = ::dlerror();
    if (const auto at = why.find(copy.path()); at != std::string::npos)
      why.replace(at, copy.path().size(), file.string());
    return {errc::refused, std::move(why)};
  }
  i->file_ = file;
  i->md5_ = copy.digest();
  // The descriptor's number must not come back while the object is mapped, which
  // may be for good, also if it is refused: the next copy would have the same
  // path, and the loader would hand out the old object.
  i->descriptor_ = copy.release();
  const auto* entry = static_cast<const detail::plugin_entry*>(
      ::dlsym(i->handle_, "esp_plugin_entry"));
  if (entry == nullptr)
    return {errc::malformed, file.string() + " has no ESP_PLUGIN"};
  if (entry->abi != abi_number)
    return {errc::refused, file.string() + " was built for ABI "
                               + std::to_string(entry->abi)
                               + ", this host has "
                               + std::to_string(abi_number)};
  i->entry_ = entry;
  i->name_ = entry->name;
  backtrace::name_image(entry, i->name_);
  i->version_ = entry->version;
  if (const auto stem = file.stem().string(); stem != i->name_)
    return {errc::malformed, file.string() + " calls itself " + i->name_
                                 + ": the name in ESP_PLUGIN and the file's "
                                   "base name must be one"};
  if (const auto done = i->register_all(*entry); !done)
    return done.error();
  return std::shared_ptr<const image>(std::move(i));
}

// The braces of ESP_PLUGIN. What they throw is gone before the image is.
result<void> image::register_all(const detail::plugin_entry& entry) {
  detail::exposed = &functions_;
  struct closing {
    ~closing() { detail::exposed = nullptr; }
  } const open;
  try {
    entry.register_tasks(&tasks_);
    return {};
  } catch (const std::exception& e) {
    return {errc::refused, file_.string() + ": " + e.what()};
  } catch (...) {
    return {errc::refused, file_.string() + ": an exception in ESP_PLUGIN"};
  }
}

// A descriptor whose object is still mapped stays open, for the reason above.
image::~image() {
  tasks_.clear();
  if (entry_ != nullptr)
    backtrace::forget_image(entry_);
  if (handle_ != nullptr)
    ::dlclose(handle_);
  if (descriptor_ < 0)
    return;
  if (is_mapped()) {
    const std::lock_guard lock(remains_lock());
    all_remains().push_back({name_, version_, md5_, file_});
  } else {
    ::close(descriptor_);
  }
}

bool image::is_mapped() const noexcept {
  void* const again =
      ::dlopen(path_of(descriptor_).c_str(), RTLD_NOLOAD | RTLD_LAZY);
  if (again != nullptr)
    ::dlclose(again);
  return again != nullptr;
}

std::vector<image::remains> image::pinned() {
  const std::lock_guard lock(remains_lock());
  return all_remains();
}

const detail::task_entry* image::find(std::string_view task) const noexcept {
  for (const auto& t : tasks_)
    if (t.name == task)
      return &t;
  return nullptr;
}

} // namespace esp::plugin
