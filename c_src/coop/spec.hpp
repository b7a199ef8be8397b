// What a co-op is to be: the Spec of doc/messages.md as a value, checked, with
// an error that names the node and the cause.

#pragma once

#include "esp/term.hpp"

#include "coop/dataflow.hpp"
#include "plugin/task_table.hpp"

#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace esp::coop {

struct node_spec {
  atom name;
  atom base; // in the template; of several instances the name tells which
  bool is_native = false;
  plugin::task_ref task; // native only, as the rest
  atom plugin_name, task_name;
  term args;
  std::size_t stack = 0;
  esp::coop::dataflow how;
  // The router that uses copies of it, one for each datum: place in `nodes`.
  std::optional<std::size_t> used_by;
};

struct receiver_spec {
  enum class kind { none, pid, name, coop, demand };
  kind what = kind::none;
  pid to;
  atom name, node;
};

// What the members of one home all know of their co-op.
struct co_op_facts
    : boost::intrusive_ref_counter<co_op_facts, boost::thread_safe_counter> {
  receiver_spec receiver; // of the last tier
  std::optional<term> tag;
  std::size_t batch = 0;        // 0: results go one by one
  std::size_t last_tier = 0;    // nodes in it
  std::uint64_t window = 1'000; // of edges that are made later
  pid head;
};
using facts_ptr = boost::intrusive_ptr<const co_op_facts>;
// Of one who knows none yet: a head can be spoken to before it is wired.
inline facts_ptr no_facts() {
  static const facts_ptr none(new co_op_facts);
  return none;
}

// What a head does when data come faster than they go: overload.hpp.
struct overload_policy {
  enum class kind : std::uint8_t { block, shed, drop_oldest, sojourn };
  kind how = kind::block;
  std::uint32_t ms = 0; // of sojourn
};

// As a supervisor's: more restarts than `intensity` within `period` seconds are
// too many.
struct restart_limit {
  std::size_t intensity = 1;
  std::uint32_t period = 5;
};

struct spec {
  std::vector<node_spec> nodes;
  std::vector<std::pair<std::size_t, std::size_t>> edges; // places in `nodes`
  std::uint32_t window = 1'000;
  std::size_t max_queue = 10'000;
  std::size_t max_queue_bytes = 64u << 20;
  atom name; // '' if it has none
  receiver_spec receiver;
  receiver_spec dead_letter; // none, pid or name
  overload_policy overload;
  std::optional<term> tag;
  std::uint32_t batch = 0;              // 0: none
  std::optional<restart_limit> restart; // of the body; none: it ends the co-op
  // `nodes` are those of one instance of the template after the other, and
  // each datum is for one of these, by `how`.
  std::size_t instances = 1;
  esp::coop::dataflow how;
  term method = atom("broadcast"); // `how` as it was given
  // Whose change of code is the co-op's: of its tasks, in both homes, and others.
  std::vector<atom> modules;
  // Where tasks were looked up, and will be when the code changes.
  const plugin::task_table* tasks = nullptr;

  // Nodes without an incoming, without an outgoing edge; in order.
  std::vector<std::size_t> entries() const;
  std::size_t last_tier() const;
  bool head_is_native() const;
  bool has_vm() const;
};

// The spec, or the Reason of {error, Reason}. Tasks are looked up, and the
// types on both ends of each edge compared.
std::variant<spec, term> read_spec(const term& t,
                                   const plugin::task_table& tasks);

} // namespace esp::coop
