// A process: a pid, two lanes of messages (control overtakes data, each in
// order), links, monitors, and a state that ends with a reason. It holds a
// fiber only while it runs; at rest it is this object and what it refers to.
//
// Signals take effect on the thread that brings them, under the process's
// lock: a link is there, a monitor is answered, an exit is noted at once,
// whatever the process is doing. Messages and the end itself are handled by
// run(), on a worker. Semantics: "Processes" in the Erlang reference manual.

#pragma once

#include "base/spinlock.hpp"
#include "dist/control.hpp"
#include "node/bonds.hpp"
#include "node/message.hpp"
#include "sched/scheduler.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace esp::node {

class node;

// What is urgent is looked at as control is, and goes before the data that wait,
// behind what went so before.
enum class lane : std::uint8_t { control, urgent, data };

// What `sys:get_status`, crash reports and process_info tell of where a
// process came from.
struct origin
    : boost::intrusive_ref_counter<origin, boost::thread_safe_counter> {
  origin(term call, std::vector<term> kin)
      : initial_call(std::move(call)), ancestors(std::move(kin)) {}
  term initial_call;           // {M, F, Arity}
  std::vector<term> ancestors; // pids or names, parent first
};
using origin_ptr = boost::intrusive_ptr<const origin>; // many may share one

class process : public sched::runnable {
public:
  using clock = std::chrono::steady_clock;

  // Processes are made by node::spawn(), which gives the number.
  process(node& home, std::uint64_t number) noexcept
      : home_(home), number_(number) {}
  ~process() override;

  node& home() const noexcept { return home_; }
  std::uint64_t number() const noexcept { return number_; }
  esp::pid pid() const noexcept;

  // ---- From any thread -----------------------------------------------

  // A message that came by `!`, from here or from afar.
  void deliver(term message, const std::optional<esp::pid>& from,
               const std::optional<seq_token>& token = std::nullopt,
               bool has_priority = false);
  void push(message_ptr m, lane l) noexcept;
  // The same to the data lane, from another's run(): without an atomic
  // instruction if they share a worker. Not one that is traced: false, and
  // nothing was done.
  [[nodiscard]] bool push_from_process(message_ptr& m) noexcept;
  // Looks again whether it has something to do: credit has come back.
  void kick() noexcept;

  // False if the process has ended: the caller answers `noproc`. `by_itself`:
  // the process has asked for it.
  bool receive_link(const esp::pid& from, bool by_itself = false);
  void receive_unlink(const esp::pid& from, std::uint64_t id);
  void receive_unlink_ack(const esp::pid& from, std::uint64_t id);
  bool receive_monitor(const esp::pid& watcher, const dist::pid_or_name& given,
                       const ref& r);
  // Only the one who monitors may stop it: a reference is easily guessed.
  void receive_demonitor(const esp::pid& watcher, const ref& r);
  void receive_down(const dist::monitor_exit& down);
  void receive_exit(const esp::pid& from, const term& reason, bool by_link,
                    bool has_priority = false);
  void receive_leader(const esp::pid& leader);
  // What somebody awaits under this reference, see expect(). False: nobody.
  bool receive_answer(const ref& r, message_ptr answer);
  static message_ptr answer_of(const term& m,
                               const std::optional<seq_token>& token);
  // Every link and monitor to that node breaks.
  void receive_node_down(atom node_name);

  // Ends it as exit(Pid, Reason) from nobody would; `kill` included.
  void end(const term& reason);
  // From the node, when a process that was told to end in mid-run has had the
  // time that a task may take: its links fire without it. Its fiber may be on
  // a thread that a task of another process holds.
  void end_is_overdue() noexcept;

  // Before it runs: its data lane outlives it. What waits there, and what is
  // still sent to it, is kept until take_lane().
  void keep_lane() noexcept { set(keeps); }
  bool keeps_lane() const noexcept {
    return (flags_.load(std::memory_order_relaxed) & keeps) != 0;
  }
  // Once it has come to rest(), or has been given up: all its data, in order.
  // What is sent to it afterwards is lost.
  message_list take_lane() noexcept;
  bool is_given_up() const noexcept {
    return (flags_.load(std::memory_order_acquire) & given_up) != 0;
  }
  // Nobody is to take it: it ends with the process.
  void drop_lane() noexcept;
  // Told to end and still in a task's own code: its links fire, and nothing
  // that the task does from here on reaches anyone. False, and no change, if it
  // is not so, or was given up before.
  bool give_up() noexcept;

  std::optional<term> exit_reason() const; // once it is to end
  bool is_alive() const noexcept;          // false as soon as it is to end
  bool has_ended() const noexcept;         // links and monitors have fired
  std::size_t queued_data() const noexcept;
  std::size_t queued_control() const noexcept;
  std::uint64_t reductions() const noexcept {
    return handled_.load(std::memory_order_relaxed);
  }
  atom name() const; // '' if it has none
  std::string what_it_does() const { return doing(); }
  void set_name(atom n);   // by the registry only
  esp::pid leader() const; // its group leader
  std::vector<esp::pid> links() const;
  bool traps_exit() const;
  std::vector<term> monitors() const;         // pids and {Name, Node}
  std::vector<esp::pid> monitored_by() const; // once for each monitor
  // As process_info has it: running, runnable, suspended or waiting.
  std::string_view status() const noexcept;
  term seq_trace_token() const; // [] if it works under none
  const origin* where_from() const noexcept {
    return origin_.load(std::memory_order_acquire);
  }
  // Once, before it runs. Whoever has found the process may be looking.
  void set_origin(origin_ptr o);
  void set_origin(term initial_call, std::vector<term> ancestors) {
    set_origin(new origin(std::move(initial_call), std::move(ancestors)));
  }

  // Somebody traces it: tracing.hpp is to hear of what it does.
  bool is_traced() const noexcept {
    return (flags_.load(std::memory_order_relaxed) & traced) != 0;
  }
  void set_traced(bool on) noexcept;
  // Nobody traces it, and its lane ends with it: nothing but its task is to be
  // thought of at a datum.
  bool is_ordinary() const noexcept {
    return (flags_.load(std::memory_order_relaxed) & (keeps | traced)) == 0;
  }
  // What tracing itself is made of is not traced: that would never end.
  virtual bool may_be_traced() const noexcept { return true; }

  // ---- On its own fiber ------------------------------------------------

  // The process whose fiber this is, or null.
  static process* current() noexcept;

  void link(const esp::pid& to);
  void unlink(const esp::pid& from);
  ref monitor(const dist::pid_or_name& to, atom at_node);
  void demonitor(const ref& r);
  bool trap_exit(bool on);
  // Messages of its data lane. Takes the first that matches, waiting for it;
  // throws exit_signal.
  std::optional<term> receive(const std::function<bool(const term&)>& matches,
                              clock::time_point until);
  // Waits until `ready()` is true, which is asked under the lock after each
  // kick, or (if `hear_data`) each message; false if `until` came first. Throws
  // exit_signal; a full table of fibers is std::system_error.
  template <class Ready>
  bool block(Ready&& ready, clock::time_point until = clock::time_point::max(),
             bool hear_data = false);
  // Answers that are not for the task: what comes to an alias, as {[alias|R],
  // Answer}, as spawn_reply or as DOWN under `r` does not go to a lane from
  // expect() to forget(), but to await(); so does a {'DOWN', ...} with
  // `noconnection` when the connection to `at_node` is lost.
  void expect(const ref& r, atom at_node);
  // The next answer under `r`; none after `until`. Throws as block() does.
  std::optional<term> await(const ref& r, clock::time_point until);
  void forget(const ref& r) noexcept;
  // The values of the first `most` data that wait for it.
  std::vector<term> waiting(std::size_t most);
  // What must stay mapped for the code that runs here, which a child that it
  // makes runs too; gives the former.
  std::shared_ptr<const void> hold(std::shared_ptr<const void> code);
  virtual std::shared_ptr<const void> code() const;
  // Throws exit_signal if the process has been told to end.
  void check_exit() {
    if ((flags_.load(std::memory_order_acquire) & exiting) != 0)
      throw_exit();
  }
  // A message of its own, which takes its token along.
  void send(const esp::pid& to, const term& message);
  void send(atom to, atom at_node, const term& message);
  // Whether it works under a seq_trace token; which; what a message to `to`
  // takes along, of which the tracer hears; seq_trace:print/1.
  bool has_token() const noexcept { return env_ && env_->token; }
  envelope_ptr present_token(); // null: none
  std::optional<seq_token> seq_send(const term& to, const term& message);
  bool seq_print(const term& info);
  // Before it runs: that of who has asked for it, here or from afar; the latter
  // gives that of the reply.
  void inherit_token(const seq_token& t, const term& request);
  std::optional<seq_token> spawned_under(const seq_token& t,
                                         const dist::spawn_request& request);
  // Works under another one, or none, as long as this lives.
  class token_scope {
  public:
    token_scope(process& p, const envelope_ptr& of);
    token_scope(const token_scope&) = delete;
    token_scope& operator=(const token_scope&) = delete;
    ~token_scope();

  private:
    process& p_;
    const envelope_ptr token_, env_;
  };
  // The task is over and what it holds is being destroyed.
  bool is_finalizing() const noexcept { return finalizing_; }

  // runnable
  void run() noexcept final;
  bool on_long_run(std::uint32_t ms) noexcept final;

protected:
  // What a subclass makes of things. All on a runner fiber but accept(),
  // which is called by whoever delivers, and may not block.
  //
  // Which lane a message belongs in; it may be unwrapped on the way. None:
  // it was dealt with on the spot.
  virtual std::optional<std::pair<message_ptr, lane>>
  accept(term message, const std::optional<esp::pid>& from);
  virtual void handle_control(message& m) = 0;
  virtual void handle_data(message_ptr m) = 0;
  // Data that have come, `first` and what is behind it, before any of them is
  // handled: for those who asked with look_at_arrivals().
  virtual void arrived(message& first) { (void)first; }
  // False leaves data in their lane until the next kick().
  virtual bool can_take_data() { return true; }
  // Handles data that wait, until there is a reason to stop, and counts them
  // in `n`. A final class may have this loop over its own functions.
  enum class stop : std::uint8_t { at_rest, gives_way, called, ends };
  virtual stop handle_all_data(unsigned& n) { return data_loop(*this, n); }
  template <class Self>
  stop data_loop(Self& self, unsigned& n) noexcept;
  // Others come before the first datum that waits. Under the lock.
  virtual void first_changes() noexcept {}
  // A message of the data lane that receive() took.
  virtual void received(const message& m) { (void)m; }
  // A run() comes to its end with the process at rest or giving way.
  virtual void run_ended() noexcept {}
  // A message as its receiver would see it, had it come from another node.
  virtual term as_sent(const message& m) const { return m.value.to_term(); }
  // The last thing that runs: destroys what the task holds. Links and
  // monitors fire after it (before it, if the reason is `kill`).
  virtual void ended(const term& reason) { (void)reason; }
  // One exit signal that does not just end the process by the rules: true if
  // this dealt with it. Under no lock.
  virtual bool intercept_exit(const esp::pid& from, const term& reason,
                              bool by_link) {
    (void)from, (void)reason, (void)by_link;
    return false;
  }
  // A monitor of its own fired: true if that is dealt with, so that no message
  // comes of it. Under no lock, on whatever thread.
  virtual bool intercept_down(const ref& r) {
    (void)r;
    return false;
  }
  // If it keeps its lane: its fiber has let go of it after the end.
  virtual void rest() noexcept {}
  // It was told to end and its task has not let go for too long. On the
  // watchdog's thread, again and again.
  virtual void overdue() noexcept {}
  // Its group leader has changed.
  virtual void leader_changed(const esp::pid& leader) { (void)leader; }
  // Where exit messages of a process that traps exits and DOWN messages go.
  virtual lane down_lane() const noexcept { return lane::data; }
  // Links and monitors have just fired, on whatever thread.
  virtual void fired_with(const term& reason) { (void)reason; }
  // What it is doing, for long_schedule and crash lines: "plugin:task".
  virtual std::string doing() const { return "process"; }

  // Marks the end with this reason; the first one stays. The end itself
  // follows when the task lets go.
  void finish(const term& reason);
  // Around a task's own code, where a process that keeps its lane may be given
  // up, and for what the task asks of the engine there, where it may not.
  // leave_task() is false if it has been: it is to unwind and touch nothing.
  void enter_task() noexcept {
    if (keeps_lane())
      enter_task_of_kept();
  }
  bool leave_task() noexcept { return !keeps_lane() || leave_task_of_kept(); }
  class engine_call {
  public:
    explicit engine_call(process& p) noexcept
        : p_(p),
          from_task_((p.flags_.load(std::memory_order_relaxed) & in_task) != 0),
          is_heard_(!from_task_ || p.leave_task()) {}
    engine_call(const engine_call&) = delete;
    engine_call& operator=(const engine_call&) = delete;
    ~engine_call() {
      if (from_task_)
        p_.enter_task();
    }
    bool is_heard() const noexcept { return is_heard_; }

  private:
    process& p_;
    const bool from_task_, is_heard_;
  };
  void set_suspended(bool on) noexcept { suspended_ = on; }
  // What came with a message that is taken, its token among that, and the end
  // of it; neither costs anything where no envelope is.
  void take_envelope(const message& m);
  void let_go_of_envelope();
  const envelope_ptr& env() const noexcept { return env_; }
  void look_at_arrivals() noexcept { looks_at_arrivals_ = true; }
  // What has come counts among what take_out() looks at.
  void take_over_arrivals() noexcept {
    const std::lock_guard guard(lock_);
    (void)take_arrivals();
  }
  // The first of its waiting data that `matches` accepts.
  template <class Matches>
  message_ptr take_out(Matches&& matches) {
    message_ptr m = mine_.extract(std::forward<Matches>(matches));
    if (m)
      taken(*m);
    return m;
  }
  bool is_suspended() const noexcept { return suspended_; }
  // Data of its own that were taken and must be handled first, in order.
  void unread(message_list&& m) noexcept;

private:
  struct link_entry {
    esp::pid other;
    std::uint64_t unlinking; // the id of our unlink that is not acknowledged
    const esp::pid& key() const noexcept { return other; }
  };
  // A reference alone would let a stranger who knows it take its place.
  struct watcher_key {
    esp::pid watcher;
    ref id;
    bool operator==(const watcher_key&) const = default;
    struct hash {
      std::size_t operator()(const watcher_key& k) const noexcept {
        return std::hash<ref>()(k.id);
      }
    };
  };
  struct watcher_entry {
    esp::pid watcher;
    dist::pid_or_name given;
    ref id;
    watcher_key key() const { return {watcher, id}; }
  };
  struct watch_entry {
    dist::pid_or_name target;
    atom at_node;
    ref id;
    const ref& key() const noexcept { return id; }
  };
  struct expectation {
    ref id;
    atom at_node;
    message_list answers;
  };
  struct seq_state {
    std::optional<seq_token> token;
    std::int64_t clock = 0; // the last serial that it gave or got
  };
  // What most processes at rest do without.
  struct extra {
    std::vector<expectation> expected;
    bonds<link_entry> links;
    bonds<watcher_entry, watcher_key::hash> watchers;
    bonds<watch_entry> watches;
    atom name;
    std::optional<esp::pid> leader;
    std::optional<term> exit_reason;
    std::shared_ptr<const void> code;
    std::unique_ptr<seq_state> seq; // once it has had a token
    sched::parker parker;

    bool is_bare() const noexcept {
      return expected.empty() && links.empty() && watchers.empty()
             && watches.empty() && name == atom() && !leader && !exit_reason
             && !code && !seq;
    }

    // The one that is unlinking under this id, or (0) that is not.
    bool drop_link(const esp::pid& other, std::uint64_t unlinking) noexcept {
      auto* const l = links.find(other);
      if (l == nullptr || l->unlinking != unlinking)
        return false;
      links.erase(l);
      return true;
    }
  };
  enum flag : std::uint32_t {
    queued = 1,        // in a run queue
    running = 2,       // inside run()
    blocked = 4,       // its fiber waits
    again = 8,         // kicked while running
    exiting = 16,      // exit_reason is set
    dead = 32,         // links and monitors have heard of the end
    traps = 64,        // trap_exit
    on_data = 128,     // a blocked receive wants to hear of data
    killed = 256,      // exiting with `kill`: nothing is waited for
    expects = 512,     // `expected` is not empty
    keeps = 1024,      // its lane outlives it
    in_task = 2048,    // keeps, and runs a task's own code
    given_up = 4096,   // keeps, and its task runs on for nobody
    lane_taken = 8192, // kept, and no longer
    called = 16384,    // something is in the control lane
    has_far = 32768,   // data_ is not empty
#ifndef ESP_WITHOUT_TRACING
    traced = 65536, // dbg
#else
    traced = 0, // bench/: what it costs where nobody traces
#endif
  };
  // Handled in one run(), of each lane: enough to make the switch cheap, few
  // enough that a neighbour's turn comes within microseconds.
  static constexpr unsigned messages_per_run = 64;

  void note_caught() noexcept;
  [[noreturn]] void throw_exit();
  void enter_task_of_kept() noexcept;
  bool leave_task_of_kept() noexcept;
  // With lock_ held as long as this lives.
  class more_of {
  public:
    more_of(std::unique_lock<spinlock> guard, extra& x) noexcept
        : guard_(std::move(guard)), x_(x) {}
    extra* operator->() const noexcept { return &x_; }

  private:
    std::unique_lock<spinlock> guard_;
    extra& x_;
  };
  more_of more();
  // Under lock_, when a bond is gone: what is to be destroyed without it.
  std::unique_ptr<extra> shed() noexcept;
  // Under lock_, as all writes of flags_ are, or before anybody else knows of
  // it: plain stores, for a locked one costs as much as a good part of a hop.
  // The flags as they were.
  std::uint32_t set(int f) noexcept {
    const auto old = flags_.load(std::memory_order_relaxed);
    flags_.store(old | static_cast<std::uint32_t>(f),
                 std::memory_order_release);
    return old;
  }
  std::uint32_t clear(int f) noexcept {
    const auto old = flags_.load(std::memory_order_relaxed);
    flags_.store(old & ~static_cast<std::uint32_t>(f),
                 std::memory_order_release);
    return old;
  }
  void wake_if(bool wanted) noexcept; // under lock_
  bool enqueue() noexcept;            // under lock_: true: schedule it
  void schedule();
  void note_exit(const term& reason, bool kill); // takes and drops lock_
  void fire(const term& reason);
  void finalize();
  static void put_token(message& m, const seq_token& t);
  void set_token(const std::optional<seq_token>& t);
  std::optional<seq_token> next_token();
  std::optional<seq_token> live(const message& m) const;
  void take_token(const message& m); // in the midst of another's work
  stop handle_all_control(unsigned& n) noexcept;
  bool take_control(message_ptr& m) noexcept;
  void take_urgent() noexcept; // under lock_
  void wait_parked(clock::time_point until);
  bool take_over() noexcept;
  void count_taken(std::uint32_t n) noexcept {
    data_out_.store(data_out_.load(std::memory_order_relaxed) + n,
                    std::memory_order_relaxed);
  }
  void taken(const message& m) noexcept {
    count_taken(1);
    if (&m == last_urgent_)
      last_urgent_ = nullptr;
  }
  bool has_work() const noexcept;    // under lock_
  message* take_arrivals() noexcept; // under lock_

  node& home_;
  const std::uint64_t number_;
  mutable spinlock lock_;
  bool suspended_ = false;         // written by the process itself only
  bool finalizing_ = false;        // likewise
  bool looks_at_arrivals_ = false; // set before it runs
  std::atomic<std::uint32_t> flags_{0};
  // Data that came, counted under lock_ or on its worker, and those taken, by
  // the fiber: plain stores each, for a locked one costs as much as the rest of
  // a hop.
  std::atomic<std::uint32_t> data_in_{0}, near_in_{0}, data_out_{0};
  std::atomic<std::uint32_t> control_count_{0};
  std::atomic<std::uint32_t> handled_{0};
  message_list control_, urgent_, data_; // arrived; under lock_
  message_list near_;           // data of its worker's, which alone sees them
  message_list mine_;           // data taken over by the fiber
  message* last_urgent_ = nullptr; // of mine_, or that is not known
  envelope_ptr env_;            // of the message being worked at
  std::unique_ptr<extra> extra_;
  std::atomic<const origin*> origin_{nullptr}; // a reference to it
};

using process_ptr = boost::intrusive_ptr<process>;

template <class Self>
process::stop process::data_loop(Self& self, unsigned& n) noexcept {
  sched::station& here = sched::this_worker::here();
  for (;;) {
    if ((flags_.load(std::memory_order_acquire) & (exiting | called)) != 0)
      return stop::called;
    if (suspended_ || !self.can_take_data())
      return stop::at_rest; // until a kick
    if (mine_.empty() && !take_over())
      return stop::at_rest;
    here.beat();
    if (n == messages_per_run || (n > 0 && here.should_yield()))
      return stop::gives_way;
    ++n;
    message_ptr m = mine_.pop_front();
    taken(*m);
    handled_.store(handled_.load(std::memory_order_relaxed) + 1,
                   std::memory_order_relaxed);
    try {
      self.handle_data(std::move(m));
    } catch (...) {
      note_caught();
    }
  }
}

template <class Ready>
bool process::block(Ready&& ready, clock::time_point until, bool hear_data) {
  for (bool timed_out = false;;) {
    check_exit();
    {
      const std::lock_guard guard(lock_);
      if (ready())
        return true;
    }
    if (timed_out)
      return false;
    sched::parker& parker = more()->parker; // stays while this runs
    if (!parker.prepare())
      throw std::system_error(
          std::make_error_code(std::errc::resource_unavailable_try_again),
          "system_limit");
    lock_.lock();
    const bool wait =
        !(flags_.load(std::memory_order_relaxed) & exiting) && !ready();
    if (wait)
      set(hear_data ? blocked | on_data : blocked);
    lock_.unlock();
    if (wait)
      wait_parked(until);
    else
      parker.cancel();
    timed_out = until != clock::time_point::max() && clock::now() >= until;
  }
}

} // namespace esp::node
