// esp_node: the C-node, started by its owner (esp_node.erl) or by hand.

#include "app/fault.hpp"
#include "app/options.hpp"
#include "app/wire_up.hpp"
#include "base/log.hpp"

#include <boost/program_options/errors.hpp>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <string>
#include <thread>
#include <unistd.h>

namespace {

using namespace std::chrono_literals;

// Past the end of input there is no VM left to be polite to.
constexpr auto grace = 2s;

std::string first_line(std::istream& in) {
  std::string line;
  std::getline(in, line);
  while (!line.empty() && (line.back() == '\r' || line.back() == '\n'))
    line.pop_back();
  return line;
}

esp::base::log_level level_of(const std::string& name) {
  using enum esp::base::log_level;
  for (const auto l : {error, warning, notice, info, debug})
    if (esp::base::name(l) == name)
      return l;
  throw boost::program_options::error("unknown --log-level " + name);
}

int fail(const std::string& why) {
  std::cerr << "esp_node: " << why << std::endl;
  return 2;
}

// Ends the OS process if the orderly end hangs; a task may run for ever.
void start_watchdog() {
  std::thread([] {
    std::this_thread::sleep_for(grace);
    ::kill(::getpid(), SIGKILL);
  }).detach();
}

int run(esp::app::options o) {
  const bool owned = o.cookie_file.empty();
  esp::app::engine engine(std::move(o));
  if (const auto started = engine.start(); !started)
    return fail(started.error().what);
  std::cout << "ready " << engine.node().name().name() << ' '
            << engine.node().creation() << ' ' << engine.node().listen_port()
            << std::endl;

  // End of input, a signal or init:stop: whichever comes first.
  sigset_t signals;
  sigemptyset(&signals);
  for (const int s : {SIGTERM, SIGINT, SIGUSR1})
    sigaddset(&signals, s);
  if (owned)
    std::thread([] {
      char c;
      while (::read(STDIN_FILENO, &c, 1) > 0) {
      }
      ::kill(::getpid(), SIGUSR1);
    }).detach();
  int got = 0;
  sigwait(&signals, &got);
  start_watchdog();
  engine.stop();
  return 0;
}

} // namespace

int main(int argc, char** argv) {
  // Threads inherit the mask: only sigwait() takes these.
  sigset_t signals;
  sigemptyset(&signals);
  for (const int s : {SIGTERM, SIGINT, SIGUSR1})
    sigaddset(&signals, s);
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  esp::app::install_fault_handlers();
  try {
    auto o = esp::app::read_options(argc, argv);
    if (o.show_help) {
      std::cout << o.help;
      return 0;
    }
    esp::base::set_log_level(level_of(o.log_level));
    std::ifstream file(o.cookie_file);
    if (!o.cookie_file.empty() && !file)
      return fail("cannot read the cookie file " + o.cookie_file);
    o.node.peers.cookie
        = first_line(o.cookie_file.empty() ? std::cin : file);
    if (o.node.peers.cookie.empty())
      return fail("no cookie came");
    for (auto& [node, path] : o.node.peers.cookies) {
      std::ifstream one(path);
      if (!one)
        return fail("cannot read the cookie file " + path);
      path = first_line(one);
    }
    const int status = run(std::move(o));
    std::cout.flush();
    std::_Exit(status); // threads of abandoned tasks are not waited for
  } catch (const boost::program_options::error& e) {
    return fail(e.what());
  }
}
