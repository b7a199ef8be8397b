// Real Erlang nodes and a real epmd for tests, all on loopback and on an epmd
// port of the test's own.

#pragma once

#include "support/os_process.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace test {

// A port that nobody used a moment ago.
inline std::uint16_t free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  ::bind(fd, reinterpret_cast<sockaddr*>(&at), sizeof at);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size);
  ::close(fd);
  return ntohs(at.sin_port);
}

class epmd_daemon {
public:
  epmd_daemon() : port_(free_port()) { start(); }

  void start() {
    process_ = os_process{{"epmd", "-d", "-d", "-port", std::to_string(port_),
                           "-address", "127.0.0.1"}};
    process_.wait_for_output("entering the main select() loop");
  }
  void kill() { process_.end(); }
  std::uint16_t port() const { return port_; }

private:
  std::uint16_t port_;
  os_process process_;
};

// Its process `oracle` answers {echo, From, Tag, X} with {Tag, X}, and
// {eval, From, Tag, Text} with {Tag, {ok, Value} | {Class, Reason}}; From is
// bound in Text.
class erlang_node {
public:
  erlang_node(const epmd_daemon& epmd, const std::string& name,
              const std::string& cookie = "cookie",
              const std::vector<std::string>& more = {}) {
    static constexpr auto oracle = R"(
      spawn(fun() ->
        register(oracle, self()),
        io:format("oracle is ready~n"),
        (fun Loop() ->
          receive
            {echo, From, Tag, X} -> From ! {Tag, X};
            {eval, From, Tag, Text} ->
              spawn(fun() ->
                {ok, Tokens, _} = erl_scan:string(Text),
                {ok, Exprs} = erl_parse:parse_exprs(Tokens),
                From ! {Tag,
                  try erl_eval:exprs(Exprs, [{'From', From}]) of
                    {value, V, _} -> {ok, V}
                  catch C:R -> {C, R} end}
              end)
          end,
          Loop()
        end)()
      end).)";
    std::vector<std::string> argv{
        "erl",         "-noinput", "-name",        name,
        "-setcookie",  cookie,     "-kernel",      "inet_dist_use_interface",
        "{127,0,0,1}", "-kernel",  "logger_level", "none"};
    argv.insert(argv.end(), more.begin(), more.end());
    argv.insert(argv.end(), {"-eval", oracle});
    process_ = os_process{argv,
                          {{"ERL_EPMD_PORT", std::to_string(epmd.port())},
                           {"ERL_EPMD_ADDRESS", "127.0.0.1"}}};
    process_.wait_for_output("oracle is ready");
  }

  void signal(int number) const { process_.signal(number); }
  void kill() { process_.end(); }

private:
  os_process process_;
};

} // namespace test
