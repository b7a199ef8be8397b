#include "app/fault.hpp"

#include "node/process.hpp"

#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <unistd.h>

namespace esp::app {

namespace {

// doing() and the pid's text allocate, which a handler should not: but this
// process is lost already, and the alarm below ends it should that hang.
void last_words(int signal, siginfo_t*, void*) {
  ::alarm(2);
  const char* const what = ::sigabbrev_np(signal);
  std::string line = "esp_node fault: SIG";
  line += what != nullptr ? what : "?";
  if (const auto* p = node::process::current())
    line += " in " + p->what_it_does() + ", process "
            + term(p->pid()).to_string();
  line += "\n";
  const auto written = ::write(STDERR_FILENO, line.data(), line.size());
  (void)written;
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

} // namespace

void install_fault_handlers() {
  struct sigaction a{};
  a.sa_sigaction = last_words;
  a.sa_flags = static_cast<int>(SA_SIGINFO | SA_ONSTACK | SA_RESETHAND);
  sigemptyset(&a.sa_mask);
  for (const int s : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT})
    ::sigaction(s, &a, nullptr);
}

} // namespace esp::app
