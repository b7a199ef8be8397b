// The registered processes that Erlang nodes take for granted: net_kernel,
// which answers pings, and rex, rpc's server.

#pragma once

#include "otp/special_process.hpp"
#include "rpc/function_table.hpp"

#include <functional>
#include <string>

namespace esp::served {

// What both have in common: no state, system messages answered, exit signals
// ignored (but `kill`), all they do not know dropped with a line in our log.
class server : public otp::special_process {
public:
  server(node::node& home, std::uint64_t number, atom name);

protected:
  otp::answer state() override;
  atom module() const override { return name_; }
  void handle_request(node::message& m) override;
  std::optional<std::pair<node::message_ptr, node::lane>>
  accept_own(term message) override;
  bool intercept_exit(const esp::pid&, const term&, bool) override {
    return true;
  }
  std::string doing() const override { return std::string(name_.name()); }

  void unknown(const term& message);

private:
  const atom name_;
};

// Answers {is_auth, Node} with `yes`, whatever else it does: any other outcome
// makes the caller disconnect us. So it does on whatever thread that brings
// the request.
class net_kernel final : public server {
public:
  net_kernel(node::node& home, std::uint64_t number)
      : server(home, number, atom("net_kernel")) {}

protected:
  std::optional<std::pair<node::message_ptr, node::lane>>
  accept(term message, const std::optional<esp::pid>& from) override;
  void handle_data(node::message_ptr m) override;
};

// What rpc's server does for nodes that ask it: see rpc.erl.
//   gen calls   {call, M, F, A, Leader}, answered by a process of its own;
//               {block_call, ...}, answered by this one
//   gen cast    {cast, M, F, A, Leader}
//   {Pid, Req}  features_request; {call, ...}, which is how C nodes of
//               erl_interface call; {sbcast, Name, Message}, {send, Name,
//               Message}
// Anything else is dropped, as rpc.erl does. `table` must outlive it.
class rex final : public server {
public:
  rex(node::node& home, std::uint64_t number, const function_table& table)
      : server(home, number, atom("rex")), table_(table) {}

protected:
  std::optional<std::pair<node::message_ptr, node::lane>>
  accept(term message, const std::optional<esp::pid>& from) override;
  void handle_data(node::message_ptr m) override;

private:
  bool request(atom caller, const term& from, const term& what);
  bool message(atom caller, const esp::pid& from, const term& what);
  // In a process of its own; `reply` gets what rpc:call/4 is to return.
  void call(atom caller, const term& what,
            std::function<void(node::node&, const term&)> reply);
  void cast(atom caller, const term& what);
  void name_send(const esp::pid& from, const term& what);

  const function_table& table_;
};

} // namespace esp::served
