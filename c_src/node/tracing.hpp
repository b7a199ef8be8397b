// What is told of processes that somebody traces, as erlang:trace/3 has it.
// The room `trace` does it; it is installed before the node starts. A process
// that nobody traces pays one look at its flags.

#pragma once

#include "esp/term.hpp"

#include <atomic>
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>

namespace esp::node {

class process;

// One call of a function that is traced, until it is over.
class traced_call {
public:
  virtual ~traced_call() = default;
  virtual void returned(const std::function<term()>& value) = 0;
  // `how` is error, exit or throw.
  virtual void raised(atom how, const term& reason) = 0;
};

// Thread safe; nothing here waits, and the caller holds no lock.
class tracing {
public:
  tracing() = default;
  tracing(const tracing&) = delete;
  tracing& operator=(const tracing&) = delete;
  virtual ~tracing() = default;

  // Whether any process is traced.
  bool is_on() const noexcept { return on_.load(std::memory_order_relaxed); }

  // A process was made, by `maker`.
  virtual void made(process& p, const pid& maker) = 0;
  // Of processes that are traced. `to` is as it was given.
  virtual void sent(process& by, const term& message, const term& to,
                    bool exists) = 0;
  virtual void received(process& by, const term& message,
                        const std::optional<pid>& from) = 0;
  virtual void scheduled(process& p, bool in) = 0;
  // Flag `procs`: link, unlink, register and so on.
  virtual void event(process& of, atom what, const term& about) = 0;
  virtual void linked(process& from, const pid& to) = 0;
  // It ends, and is traced no more.
  virtual void ended(process& p, const term& reason, atom name) = 0;
  // Null: this call is not traced. `args` makes a list.
  virtual std::unique_ptr<traced_call>
  called(process& by, atom module, atom function, std::size_t arity,
         const std::function<term()>& args) = 0;

protected:
  std::atomic<bool> on_{false};
};

} // namespace esp::node
