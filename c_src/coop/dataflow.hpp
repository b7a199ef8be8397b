// A node's dataflow method as its template has it: the Dataflow of
// doc/messages.md, checked. dispatch.hpp is what puts it to work.

#pragma once

#include "esp/datum.hpp"
#include "esp/term.hpp"

#include "plugin/task_table.hpp"

#include <cstddef>
#include <cstdint>
#include <variant>
#include <vector>

namespace esp::coop {

// What of a result `hash` and `select` go by.
struct part {
  enum class kind { all, element, key, task };
  kind what = kind::all;
  std::size_t place = 0; // of element, from 0
  term key;              // of key; of task its name
  // A function of the same image as the node's task, which keeps it loaded.
  const detail::task_entry* task = nullptr;
};

// Of `consume`: how many workers are made at first, with how many unused ones
// left more are made, and how many.
struct slab {
  std::uint32_t initial = 0, threshold = 0, replenish = 0;
};

struct dataflow {
  enum class method {
    broadcast,
    round_robin,
    random,
    shuffle,
    select,
    hash,
    least_loaded,
    consume
  };
  method how = method::broadcast;
  part by = {}; // of select and hash
  slab workers = {};
};

// A result that its method cannot place; `reason` is the node's end. Not a
// std::exception, so that a task which handles errors of its own lets it pass.
class bad_result {
public:
  explicit bad_result(term reason) : reason_(std::move(reason)) {}
  const term& reason() const noexcept { return reason_; }

private:
  term reason_;
};

// The method, or the Cause of {bad_node, Name, Cause}. `node` is the task whose
// results it is about; null for a node of another home, which knows no tasks.
std::variant<dataflow, term> read_dataflow(const term& t,
                                           const plugin::task_ref& node);

// Makes `into` that part of `d`; a task may give none, one or many. Throws
// no_part() for a datum without, and what the task throws.
void take_part(const part& p, datum& d, std::vector<term>& into);
bad_result no_part(const part& p, const datum& d);

} // namespace esp::coop
