// A process that runs one function and ends with it: what esp::spawn and a
// spawn request make.

#pragma once

#include "node/process.hpp"

#include <functional>
#include <string>

namespace esp::node {

// The exit reason that stands for the exception being handled:
//   exit_signal                   the reason it carries
//   std::system_error with the
//     text "system_limit"         system_limit
//   anything else                 {{cpp_exception, Type, What}, Stacktrace}
// Type is the demangled name, What the text, both binaries; Stacktrace is that
// of the throw (stack_of_throw.hpp). Call it in a handler.
term reason_of_current_exception();

// True for the reasons that nobody is told about: normal, shutdown,
// {shutdown, _}.
bool is_orderly(const term& reason) noexcept;

class spawned_process : public process {
public:
  // It begins at the first kick(), so that whoever makes it can link to it and
  // monitor it before. `name` is what it shows as while it runs.
  spawned_process(node& home, std::uint64_t number, std::function<void()> body,
                  std::string name = "spawned");

protected:
  // Messages wait in the data lane for the body to receive them; so nothing is
  // ever handled outside it.
  void handle_control(message&) override {}
  void handle_data(message_ptr) override {}
  bool can_take_data() override;
  void ended(const term& reason) override;
  std::string doing() const override { return name_; }

private:
  std::function<void()> body_;
  std::string name_;
  bool has_begun_ = false;
};

} // namespace esp::node
