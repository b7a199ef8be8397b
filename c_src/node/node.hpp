// The node: its processes and names, and the way of every signal from one
// process to another, here or on a peer.

#pragma once

#include "dist/control.hpp"
#include "node/peers.hpp"
#include "node/pid_table.hpp"
#include "node/process.hpp"
#include "sched/scheduler.hpp"

#include <atomic>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace esp {
enum class level; // of log events, see esp/process.hpp
}

namespace esp::node {

// The alias in a gen call's tag, [alias|Ref] or [[alias|Ref]|_].
std::optional<ref> alias_of(const term& gen_tag);

struct node_options {
  peer_options peers;
  sched::options workers;
  std::string owner; // the node whose VM hears of log events; may be empty
  // For tests that replay: connections without sockets. Its signals come on
  // whatever thread it likes, one at a time.
  std::function<std::unique_ptr<esp::node::peers>(peer_events&)> make_peers =
      nullptr;
};

class tracing;

class node final : public peer_events {
public:
  explicit node(node_options o);
  ~node();
  node(const node&) = delete;
  node& operator=(const node&) = delete;

  result<void> start();
  // Ends every process with `shutdown`, waits a bounded time for them, then
  // closes the connections.
  void stop();

  atom name() const noexcept { return name_; }
  std::uint32_t creation() const noexcept { return creation_; }
  std::uint16_t listen_port() const noexcept { return peers_->listen_port(); }
  peers& connections() noexcept { return *peers_; }
  sched::scheduler& workers() noexcept { return workers_; }
  const pid_table& table() const noexcept { return table_; }
  // What may wait for one peer before senders of data pause, in bytes.
  std::size_t high_water() const noexcept { return options_.peers.high_water; }

  // Bytes over all connections so far, those that are gone included.
  struct traffic {
    std::uint64_t in = 0, out = 0;
  };
  traffic count_traffic() const;

  // ---- Processes --------------------------------------------------------

  // Makes a P(node&, number, args...); it runs as soon as it has something
  // to do. std::system_error when the table is full.
  template <class P, class... Args>
  boost::intrusive_ptr<P> spawn(Args&&... args) {
    const std::uint64_t n = reserve_number();
    try {
      boost::intrusive_ptr<P> p(new P(*this, n, std::forward<Args>(args)...));
      table_.insert(p);
      return p;
    } catch (...) {
      table_.release(n);
      throw;
    }
  }
  process_ptr find(std::uint64_t number) const noexcept {
    return table_.find(number);
  }
  process_ptr find(const pid& p) const noexcept; // null: not of this node, dead
  std::uint64_t number_of(const pid& p) const noexcept; // 0: not of this node
  pid pid_of(std::uint64_t number) const noexcept;
  void forget(process& p, atom registered); // by a process that ends
  // A process in mid-run has to end: it is looked at again after as long as a
  // task may take over that.
  void told_to_end(const process& p);

  bool register_name(atom n, const process_ptr& p); // false: taken, or named
  bool unregister_name(atom n);
  process_ptr whereis(atom n) const;
  std::vector<atom> registered() const;

  ref make_ref();
  std::uint64_t next_unlink_id() noexcept { return ++unlink_ids_; }
  // Replies to an alias reach its process as long as it is active: as an
  // answer if the process expects one, else as data.
  ref make_alias(const process& p);
  void drop_alias(const ref& r);

  // ---- Signals ----------------------------------------------------------

  // One signal to wherever its target is; order kept between two processes.
  // Exits, acknowledgements and replies do not dial a node that has gone.
  void send(const dist::control& c);
  // A process's own messages are process::send().
  void send_message(const pid& from, const pid& to, const term& m,
                    const std::optional<seq_token>& token = std::nullopt);
  void send_message(const pid& from, atom to, atom at_node, const term& m,
                    const std::optional<seq_token>& token = std::nullopt);
  // To From of a gen call, {Pid, Tag}: by alias if the tag holds one. Takes
  // along the token of the process that calls this, if that is `from`.
  void reply(const pid& from, const term& to, const term& answer);
  void send_monitor(const pid& from, const dist::pid_or_name& to, atom at_node,
                    const ref& r);
  void send_demonitor(const pid& from, const dist::pid_or_name& to,
                      atom at_node, const ref& r);
  // Answered with SPAWN_REPLY and, if it asks to monitor, MONITOR_P_EXIT:
  // process::expect(r.ref) comes before it.
  void send_spawn_request(atom at_node, const dist::spawn_request& r);
  // Hands to the sockets what this thread has sent.
  void flush() { peers_->flush(); }

  // ---- What the rooms above install -------------------------------------

  // Who is told of traced processes; null: nobody, and none is traced. Before
  // start(); it outlives the node.
  void trace_with(tracing* t) noexcept { traces_ = t; }
  tracing* traces() const noexcept { return traces_; }

  // Makes the process that a spawn request asks for; it must not have run.
  // An atom is the error for the reply: badopt, system_limit, notsup.
  std::function<std::variant<process_ptr, atom>(const dist::spawn_request&)>
      on_spawn_request;

  // One event for the logger of a VM, on any thread, and never waiting: a
  // string (chardata) or a report (a map), and more for its metadata, in which
  // the first of equal keys counts.
  // `from` is null if the node itself has something to say.
  using metadata = std::vector<std::pair<term, term>>;
  std::function<void(const process* from, esp::level, const term& event,
                     const metadata& more)>
      on_log;
  // False if the logger there lets no event of that level by, of a module.
  std::function<bool(const process& from, esp::level, atom module)> is_logged;
  // A process that was spawned ends with a reason that is an error.
  std::function<void(process&, const term& reason)> on_crash;

  // The VM that hears of log events: `owner`, else the first that connected.
  atom log_node() const;
  // Group leader of processes that were given none: `init` there, or a pid
  // of ours that nobody answers if no node is connected.
  pid default_leader() const;
  void set_default_leader(const pid& leader);
  seq_tracer& seq_trace() noexcept { return seq_trace_; }

  struct events {
    std::function<void(atom)> node_up, node_down;
  };
  events on_nodes;

private:
  void on_up(const peer_ptr& p) override;
  void on_signal(const peer_ptr& p, dist::control&& c) override;
  void on_down(const peer_ptr& p, const std::string& why) override;
  void on_unreachable(atom node, const std::string& why) override;
  void on_batch_end() override { flush(); }

  std::uint64_t reserve_number();
  process_ptr with_alias(const ref& r) const;
  std::optional<seq_token> token_of(const dist::trace_token& t) const;
  void deliver(const dist::control& c); // to a target on this node
  void lost(atom node_name);
  void look_at_ends();
  void tell_sent(const pid& from, const term& to, bool exists, const term& m);
  void tell_named(atom n, const process_ptr& p, std::string_view what);
  bool is_tracing() const noexcept;

  node_options options_;
  atom name_;
  std::uint32_t creation_ = 0;
  pid_table table_;
  std::atomic<std::uint64_t> refs_{0}, unlink_ids_{0};
  std::uint32_t ref_salt_ = 0;

  mutable std::mutex mutex_; // names, aliases, leader, connections
  std::unordered_map<atom, std::uint64_t> names_;
  std::unordered_map<ref, std::uint64_t> aliases_;
  std::optional<pid> leader_;
  atom first_peer_;
  std::vector<peer_ptr> up_;
  traffic of_the_gone_;

  seq_tracer seq_trace_{*this};

  std::mutex ends_mutex_;
  std::deque<std::pair<process::clock::time_point, std::uint64_t>> ends_;
  tracing* traces_ = nullptr;

  std::unique_ptr<peers> peers_; // the workers send until they have ended
  sched::scheduler workers_;
};

} // namespace esp::node
