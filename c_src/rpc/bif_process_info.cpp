#include "node/pid_table.hpp"
#include "rpc/bifs.hpp"
#include "rpc/erpc.hpp"

#include <malloc.h>

namespace esp::served {

namespace {

template <class List>
term list_of(const List& from) {
  std::vector<term> all;
  for (const auto& v : from)
    all.emplace_back(v);
  return term::list(all);
}

term initial_call(const node::process& p) {
  static const term unknown =
      term::tuple({atom("esp"), atom("process"), term::integer(0)});
  const auto* o = p.where_from();
  return o != nullptr ? o->initial_call : unknown;
}

term current_function(const node::process& p) {
  const auto* c = dynamic_cast<const calling_process*>(&p);
  return c != nullptr ? c->function() : initial_call(p);
}

// No file and no line, as of a function compiled without.
term current_location(const node::process& p) {
  auto mfa = current_function(p).elements();
  mfa.emplace_back();
  return term::tuple(mfa);
}

// What proc_lib would have put there, and sys:get_status shows; what is only
// spawned has nothing.
term dictionary(const node::process& p) {
  const auto* o = p.where_from();
  if (o == nullptr || dynamic_cast<const node::spawned_process*>(&p) != nullptr)
    return term();
  return term::list(
      {term::tuple({atom("$initial_call"), o->initial_call}),
       term::tuple({atom("$ancestors"), term::list(o->ancestors)})});
}

term pair(std::string_view key, term value) {
  return term::tuple({atom(key), std::move(value)});
}

term garbage_collection_info(const node::process&) {
  std::vector<term> all;
  for (const char* size :
       {"old_heap_block_size", "heap_block_size", "mbuf_size", "recent_size",
        "stack_size", "old_heap_size", "heap_size", "bin_vheap_size",
        "bin_vheap_block_size", "bin_old_vheap_size",
        "bin_old_vheap_block_size"})
    all.push_back(pair(size, integer(0)));
  return term::list(all);
}

// What was allocated for it as a whole, and what hangs on that.
std::size_t memory_of(const node::process& p) {
  auto* const whole = const_cast<void*>(dynamic_cast<const void*>(&p));
  return ::malloc_usable_size(whole) + p.links().size() * sizeof(pid)
         + (p.queued_data() + p.queued_control()) * sizeof(node::message);
}

using item = term (*)(const node::process&);

// What is known of a process, in the order of process_info/1. A process of
// ours has no heap: what would be about it is 0.
struct {
  std::string_view name;
  item value;
  bool is_default; // among the items of process_info/1
} const items[] = {
    {"registered_name",
     [](const node::process& p) {
       return p.name() == atom() ? term() : term(p.name());
     },
     true},
    {"current_function", current_function, true},
    {"initial_call", initial_call, true},
    {"status", [](const node::process& p) -> term { return atom(p.status()); },
     true},
    {"message_queue_len",
     [](const node::process& p) {
       return integer(p.queued_data() + p.queued_control());
     },
     true},
    {"links", [](const node::process& p) { return list_of(p.links()); }, true},
    {"dictionary", dictionary, true},
    {"trap_exit",
     [](const node::process& p) { return boolean(p.traps_exit()); }, true},
    {"error_handler",
     [](const node::process&) -> term { return atom("error_handler"); }, true},
    {"priority", [](const node::process&) -> term { return atom("normal"); },
     true},
    {"group_leader", [](const node::process& p) -> term { return p.leader(); },
     true},
    {"total_heap_size", [](const node::process&) { return integer(0); }, true},
    {"heap_size", [](const node::process&) { return integer(0); }, true},
    {"stack_size", [](const node::process&) { return integer(0); }, true},
    {"reductions",
     [](const node::process& p) { return integer(p.reductions()); }, true},
    {"garbage_collection",
     [](const node::process&) {
       return term::list({pair("max_heap_size", max_heap_size()),
                          pair("min_bin_vheap_size", integer(0)),
                          pair("min_heap_size", integer(0)),
                          pair("fullsweep_after", integer(0)),
                          pair("minor_gcs", integer(0))});
     },
     true},
    {"suspending", [](const node::process&) { return term(); }, true},
    {"memory", [](const node::process& p) { return integer(memory_of(p)); },
     false},
    {"monitors",
     [](const node::process& p) {
       std::vector<term> all;
       for (const term& m : p.monitors())
         all.push_back(term::tuple({atom("process"), m}));
       return term::list(all);
     },
     false},
    {"monitored_by",
     [](const node::process& p) { return list_of(p.monitored_by()); }, false},
    {"ancestors",
     [](const node::process& p) {
       const auto* o = p.where_from();
       return o != nullptr ? term::list(o->ancestors) : term();
     },
     false},
    {"parent",
     [](const node::process& p) -> term {
       const auto* o = p.where_from();
       if (o != nullptr && !o->ancestors.empty()
           && o->ancestors[0].kind() == kind::pid)
         return o->ancestors[0];
       return atom("undefined");
     },
     false},
    {"binary", [](const node::process&) { return term(); }, false},
    {"messages", [](const node::process&) { return term(); }, false},
    {"current_stacktrace",
     [](const node::process& p) {
       return term::list(std::initializer_list<term>{current_location(p)});
     },
     false},
    {"current_location", current_location, false},
    {"catchlevel", [](const node::process&) { return integer(0); }, false},
    {"last_calls", [](const node::process&) { return boolean(false); }, false},
    {"sequential_trace_token",
     [](const node::process& p) { return p.seq_trace_token(); }, false},
    {"trace", [](const node::process&) { return integer(0); }, false},
    {"message_queue_data",
     [](const node::process&) -> term { return atom("off_heap"); }, false},
    {"min_heap_size", [](const node::process&) { return integer(0); }, false},
    {"min_bin_vheap_size", [](const node::process&) { return integer(0); },
     false},
    {"fullsweep_after", [](const node::process&) { return integer(0); }, false},
    {"max_heap_size", [](const node::process&) { return max_heap_size(); },
     false},
    {"garbage_collection_info", garbage_collection_info, false},
    {"magic_ref", [](const node::process&) { return term(); }, false},
    // Items of later releases.
    {"async_dist", [](const node::process&) { return boolean(false); }, false},
    {"label", [](const node::process&) -> term { return atom("undefined"); },
     false},
    {"backtrace", [](const node::process&) { return term::binary(""); }, false},
    // Of our own: the two lanes, and what it is doing as our log lines say it.
    {"data_queue_len",
     [](const node::process& p) { return integer(p.queued_data()); }, false},
    {"control_queue_len",
     [](const node::process& p) { return integer(p.queued_control()); }, false},
    {"current_task",
     [](const node::process& p) { return term::binary(p.what_it_does()); },
     false},
};

term from_dictionary(const node::process& p, const term& key) {
  static const atom undefined("undefined");
  const auto entries = dictionary(p).as_list();
  for (const term& entry : *entries)
    if (entry.element(0) == key)
      return entry.element(1);
  return undefined;
}

term pair_of(const node::process& p, const term& name) {
  for (const auto& i : items)
    if (name.is_atom(i.name))
      return term::tuple({name, i.value(p)});
  if (name.is_tagged("dictionary", 2)) // of OTP 26.2 and later
    return term::tuple({name, from_dictionary(p, name.element(1))});
  badarg();
}

// Of one that is gone, or has nothing in its dictionary and so is none of
// proc_lib's, that of them all.
term translated_initial_call(const node::process_ptr& p) {
  static const term init_p =
      term::tuple({atom("proc_lib"), atom("init_p"), integer(5)});
  return p && dictionary(*p) != term() ? initial_call(*p) : init_p;
}

term process_info(const call_context& c, const term& who) {
  static const atom undefined("undefined");
  const auto p = process_of(c, who);
  if (!p)
    return undefined;
  std::vector<term> all;
  for (const auto& i : items)
    if (i.is_default && (i.name != "registered_name" || p->name() != atom()))
      all.push_back(term::tuple({atom(i.name), i.value(*p)}));
  return term::list(all);
}

term process_info(const call_context& c, const term& who, const term& what) {
  static const atom undefined("undefined");
  const auto p = process_of(c, who);
  const auto names = what.as_list();
  if (!names && what.kind() != kind::atom
      && !what.is_tagged("dictionary", 2))
    badarg();
  if (!p)
    return undefined;
  if (!names) {
    // Alone, a name that there is not is [], not {registered_name, []}.
    if (what.is_atom("registered_name") && p->name() == atom())
      return term();
    return pair_of(*p, what);
  }
  std::vector<term> all;
  for (const term& name : *names)
    all.push_back(pair_of(*p, name));
  return term::list(all);
}

} // namespace

term max_heap_size() {
  return term::map({{atom("error_logger"), boolean(true)},
                    {atom("kill"), boolean(true)},
                    {atom("size"), integer(0)}});
}

void add_process_info(function_table& t) {
  const auto add = [&t](std::string_view module, std::string_view name,
                        unsigned arity, function f) {
    t.add(module, name, arity, std::move(f), effect::looks);
  };
  add("erlang", "processes", 0, [](call_context& c, arguments) {
    std::vector<term> all;
    for (const auto& p : c.home.table().all())
      if (p->is_alive())
        all.emplace_back(p->pid());
    return term::list(all);
  });
  add("erlang", "is_process_alive", 1, [](call_context& c, arguments a) {
    return boolean(process_of(c, a[0]) != nullptr);
  });
  add("proc_lib", "translate_initial_call", 1,
      [](call_context& c, arguments a) {
        if (!a[0].as_pid())
          function_clause();
        return translated_initial_call(process_of(c, a[0]));
      });
  add("erlang", "process_info", 1,
      [](call_context& c, arguments a) { return process_info(c, a[0]); });
  add("erlang", "process_info", 2,
      [](call_context& c, arguments a) { return process_info(c, a[0], a[1]); });
}

} // namespace esp::served
