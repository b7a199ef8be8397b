// The last words of this OS process: a stack overflow or a segmentation fault
// in a task ends it, with one line that says which task it was.

#pragma once

namespace esp::app {

// Handles SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT on the alternate stacks
// that workers have.
void install_fault_handlers();

} // namespace esp::app
