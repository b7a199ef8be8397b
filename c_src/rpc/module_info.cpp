#include "rpc/module_info.hpp"

#include "rpc/bifs.hpp"

#include <algorithm>
#include <initializer_list>

namespace esp::served {

namespace {

term functions(const function_table& table, atom module) {
  static const atom name("module_info");
  std::vector<term> all{term::tuple({name, integer(0)}),
                        term::tuple({name, integer(1)})};
  for (const auto& [function, arity] : table.functions_of(module))
    all.push_back(term::tuple({function, integer(arity)}));
  return term::list(all);
}

term attributes(const function_table& table, atom module) {
  static const atom vsn("vsn");
  const auto all = table.modules();
  const auto m = std::find_if(all.begin(), all.end(), [&](const auto& l) {
    return l.name == module;
  });
  if (m == all.end() || m->version.empty())
    return term();
  return term::list({term::tuple(
      {vsn, term::list(std::initializer_list<term>{
                term::string(m->version)})})});
}

term item(const function_table& table, atom module, const term& what) {
  if (what.is_atom("module"))
    return module;
  if (what.is_atom("exports") || what.is_atom("functions"))
    return functions(table, module);
  if (what.is_atom("attributes"))
    return attributes(table, module);
  if (what.is_atom("compile") || what.is_atom("nifs"))
    return term();
  if (what.is_atom("md5"))
    return atom("undefined");
  badarg();
}

} // namespace

term module_info(const function_table& table, atom module, arguments args) {
  if (!args.empty())
    return item(table, module, args[0]);
  std::vector<term> all;
  for (const char* what : {"module", "exports", "attributes", "compile", "md5"})
    all.push_back(term::tuple({atom(what), item(table, module, atom(what))}));
  return term::list(all);
}

} // namespace esp::served
