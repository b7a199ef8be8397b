// What every module has, beside its own functions.

#pragma once

#include "rpc/function_table.hpp"

namespace esp::served {

// Module:module_info/0,1, of a module that the table has. There is no byte
// code: what would be of it is empty, as of a module compiled without.
term module_info(const function_table& table, atom module, arguments args);

} // namespace esp::served
