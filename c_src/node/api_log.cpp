// Of include/esp/process.hpp: log events.

#include "esp/process.hpp"

#include "backtrace/frames.hpp"
#include "node/node.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace esp {

namespace {

using node::process;

process& here() {
  process* const me = process::current();
  if (me == nullptr)
    throw std::logic_error("esp: called off a process's fiber");
  return *me;
}

// The plugin that the code at `address` is of.
atom module_of(const void* address) {
  const std::string name = backtrace::image_name(address);
  return atom(name.empty() ? "esp" : name);
}

bool is_logged(const process& me, esp::level level, atom module) {
  return !me.home().is_logged || me.home().is_logged(me, level, module);
}

bool is_list_of_atoms(const term& t) {
  const auto all = t.as_list();
  return all && std::ranges::all_of(*all, [](const term& e) {
           return e.kind() == kind::atom;
         });
}

// The function is the task, or whatever the process was started with, if that
// is the plugin's own: which of a plugin's functions logs, file and line tell.
void log_event(process& me, atom module, esp::level level, const term& event,
               log_metadata more, const log_place& where) {
  static const atom mfa("mfa"), file("file"), line("line");
  const auto* o = me.where_from();
  const bool is_task = o != nullptr && o->initial_call.arity() == 3
                       && o->initial_call.element(0) == term(module);
  node::node::metadata all{
      {mfa, is_task ? o->initial_call
                    : term::tuple({module, atom(where.function),
                                   term::integer(0)})},
      {file, term::string(where.file)},
      {line, term::integer(where.line)}};
  for (const auto& [key, value] : more)
    if (key != "domain" || is_list_of_atoms(value)) // filters would fail
      all.emplace_back(atom(key), value);
  me.home().on_log(&me, level, event, all);
}

} // namespace

void log(esp::level level, std::string_view text, log_metadata more,
         log_place where) {
  process& me = here();
  const atom module = module_of(__builtin_return_address(0));
  if (is_logged(me, level, module))
    log_event(me, module, level, term::binary(text), more, where);
}

void log(esp::level level, const term& report, log_metadata more,
         log_place where) {
  process& me = here();
  const atom module = module_of(__builtin_return_address(0));
  if (is_logged(me, level, module))
    log_event(me, module, level, report, more, where);
}

bool is_logged(esp::level level) {
  const process& me = here();
  return is_logged(me, level, module_of(__builtin_return_address(0)));
}

} // namespace esp
