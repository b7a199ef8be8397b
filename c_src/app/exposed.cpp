#include "app/exposed.hpp"

#include "node/process.hpp"

#include <memory>
#include <utility>
#include <vector>

namespace esp::app {

namespace {

// For the processes that the function starts, as long as it runs.
class holding_image {
public:
  explicit holding_image(const plugin::image_ptr& image)
      : me_(node::process::current()) {
    if (me_ != nullptr)
      before_ = me_->hold(image);
  }
  holding_image(const holding_image&) = delete;
  holding_image& operator=(const holding_image&) = delete;
  ~holding_image() {
    if (me_ != nullptr)
      me_->hold(std::move(before_));
  }

private:
  node::process* const me_;
  std::shared_ptr<const void> before_;
};

// As Erlang has it when no clause of a function matches.
served::function callable(const plugin::image_ptr& image,
                          const detail::function_entry& f) {
  return [image, f](served::call_context&, served::arguments args) {
    static const atom function_clause("function_clause");
    const holding_image held(image);
    auto value = f.call(f.function, args);
    if (!value)
      throw served::raised(served::exception_class::error, function_clause);
    return *std::move(value);
  };
}

} // namespace

void publish_exposed(plugin::task_table& tasks, served::function_table& table) {
  tasks.on_load = [&table](const plugin::image_ptr& image) -> result<void> {
    std::vector<served::published> all;
    for (const auto& f : image->functions())
      all.push_back({f.module, f.name, f.arity, callable(image, f)});
    const auto done = table.publish(atom(image->name()), std::move(all));
    if (!done)
      return {done.error().code,
              image->file().string() + ": " + done.error().what};
    return {};
  };
  tasks.on_unload = [&table](std::string_view plugin) {
    (void)table.publish(atom(plugin), {}); // nothing cannot clash
  };
}

} // namespace esp::app
