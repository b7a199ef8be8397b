// Another program beside the test: started, heard, signalled by
// its own pid, and gone when the object is.

#pragma once

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

extern char** environ;

namespace test {

// Generous: a sanitized build beside three others on two cores.
inline constexpr std::chrono::seconds patience{60};

class os_process {
public:
  os_process() = default;
  explicit os_process(std::vector<std::string> argv,
                      const std::map<std::string, std::string>& more = {}) {
    // It dies with the test, also where that is killed.
    argv.insert(argv.begin(), {"setpriv", "--pdeathsig", "KILL"});
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) {
      throw std::runtime_error("pipe2");
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 2);
    std::vector<std::string> environment;
    for (char** e = environ; *e != nullptr; ++e) {
      const std::string one{*e};
      if (!more.contains(one.substr(0, one.find('=')))) {
        environment.push_back(one);
      }
    }
    for (const auto& [key, value] : more) {
      environment.push_back(key + "=" + value);
    }
    auto pointers = [](std::vector<std::string>& all) {
      std::vector<char*> p;
      for (auto& s : all) {
        p.push_back(s.data());
      }
      p.push_back(nullptr);
      return p;
    };
    const int status =
        ::posix_spawnp(&pid_, argv[0].c_str(), &actions, nullptr,
                       pointers(argv).data(), pointers(environment).data());
    posix_spawn_file_actions_destroy(&actions);
    ::close(ends[1]);
    printed_ = std::make_unique<printed>(ends[0]);
    if (status != 0) {
      pid_ = -1;
      throw std::runtime_error("cannot start " + argv[0]);
    }
  }
  os_process(os_process&& o) noexcept
      : pid_(std::exchange(o.pid_, -1)), printed_(std::move(o.printed_)) {}
  os_process& operator=(os_process&& o) noexcept {
    end();
    pid_ = std::exchange(o.pid_, -1);
    printed_ = std::move(o.printed_);
    return *this;
  }
  ~os_process() { end(); }

  // Waits until what it has printed contains `wanted`.
  void wait_for_output(const std::string& wanted) const {
    std::unique_lock lock{printed_->mutex};
    const auto is_there = [&] {
      return printed_->text.find(wanted) != std::string::npos;
    };
    printed_->changed.wait_for(lock, patience,
                               [&] { return is_there() || printed_->ended; });
    if (!is_there()) {
      throw std::runtime_error("no \"" + wanted + "\" in: " + printed_->text);
    }
  }

  void signal(int number) const {
    if (pid_ > 0) {
      ::kill(pid_, number);
    }
  }
  // SIGKILL, and waits until it is gone.
  void end() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
      }
      pid_ = -1;
    }
    printed_ = nullptr;
  }

private:
  // Read by a thread, for a program that nobody reads would stop some time.
  struct printed {
    explicit printed(int fd) : out(fd), reader([this] { read_all(); }) {}
    ~printed() {
      reader.join(); // its end of file is the program's end
      ::close(out);
    }
    void read_all() {
      char buffer[4'096];
      for (;;) {
        const auto n = ::read(out, buffer, sizeof buffer);
        std::lock_guard lock{mutex};
        if (n > 0 && text.size() < most_text) {
          text.append(buffer, static_cast<std::size_t>(n));
        } else if (n == 0 || (n < 0 && errno != EINTR)) {
          ended = true;
        }
        changed.notify_all();
        if (ended) {
          return;
        }
      }
    }
    static constexpr std::size_t most_text = 1 << 16;
    int out;
    std::mutex mutex;
    std::condition_variable changed;
    std::string text;
    bool ended = false;
    std::thread reader;
  };

  pid_t pid_ = -1;
  std::unique_ptr<printed> printed_;
};

} // namespace test
