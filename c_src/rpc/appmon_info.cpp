// appmon_info of runtime_tools, which observer's Applications tab asks: a
// process for each client, that looks again every so often and says what has
// changed.

#include "esp/process.hpp"

#include "base/log.hpp"
#include "node/spawned.hpp"
#include "rpc/bifs.hpp"

#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>
#include <unordered_map>

namespace esp::served {

namespace {

using clock = std::chrono::steady_clock;
using tree_source = std::function<process_tree(node::node&)>;

constexpr milliseconds default_interval{2'000}, shortest_interval{100};
constexpr std::size_t max_tasks = 64; // of one client's process

// {Command, Aux} for `from`, again after `interval` if there is one.
struct task {
  term command, aux;
  esp::pid from;
  ref watch;
  std::optional<milliseconds> interval;
  clock::time_point due;
  std::optional<term> delivered;
};

// Of the options only this one matters: {timeout, Ms | at_most_once}. None if
// they are no options.
struct timing {
  std::optional<milliseconds> interval;
};
std::optional<timing> timing_of(const term& options) {
  const auto all = options.as_list();
  if (!all)
    return std::nullopt;
  for (const term& o : *all) {
    if (!o.is_tagged("timeout", 2))
      continue;
    if (o.element(1).is_atom("at_most_once"))
      return timing{};
    const auto ms = o.element(1).as_integer();
    if (!ms || *ms < 0 || *ms > 0xFFFF'FFFF)
      return std::nullopt;
    return timing{std::max(milliseconds(*ms), shortest_interval)};
  }
  return timing{default_interval};
}

// What is in UTF-8 here, as a list of characters.
term characters(std::string_view utf8) {
  std::vector<term> all;
  for (std::size_t i = 0; i < utf8.size();) {
    const auto first = static_cast<unsigned char>(utf8[i++]);
    const int more = first < 0xC0 ? 0 : first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
    std::uint64_t c = more == 0 ? first : first & (0x3Fu >> more);
    for (int n = 0; n < more && i < utf8.size(); ++n)
      c = c << 6 | (static_cast<unsigned char>(utf8[i++]) & 0x3Fu);
    all.push_back(integer(c));
  }
  return term::list(all);
}

// {Root, [{Pid, Text}], [{Parent, Child}], [{From, To}]}, all of them by text.
term app(const process_tree& t) {
  if (t.processes.empty())
    return term::tuple({term(), term(), term(), term()});
  std::vector<term> processes;
  for (const auto& v : t.processes)
    processes.push_back(term::tuple({v.process, characters(v.text)}));
  const auto links = [&t](const std::vector<process_tree::link>& from) {
    std::vector<term> all;
    for (const auto& [a, b] : from)
      all.push_back(term::tuple({characters(t.processes[a].text),
                                 characters(t.processes[b].text)}));
    return term::list(all);
  };
  return term::tuple({characters(t.processes.front().text),
                      term::list(processes), links(t.links),
                      links(t.across)});
}

class appmon_info {
public:
  appmon_info(node::node& home, const function_table& table,
              const tree_source& source, const esp::pid& starter,
              const esp::pid& client)
      : home_(home), table_(table), source_(source), starter_(starter),
        client_(client) {}

  void run() {
    esp::trap_exit(true);
    esp::link(client_);
    while (!is_over_) {
      const auto message = esp::receive(
          [](const term&) { return true; }, until_next());
      if (message)
        handle(*message);
      else
        work();
    }
  }

private:
  milliseconds until_next() const {
    if (tasks_.empty())
      return infinity;
    const auto first = std::min_element(
        tasks_.begin(), tasks_.end(),
        [](const task& a, const task& b) { return a.due < b.due; });
    if (!first->interval)
      return infinity;
    return std::max(milliseconds(0), std::chrono::ceil<milliseconds>(
                                         first->due - clock::now()));
  }

  void handle(const term& m) {
    if (m.is_tagged("EXIT", 3)) {
      if (const auto who = m.element(1).as_pid())
        left(*who, m.element(2));
      return;
    }
    if (m.is_tagged("DOWN", 5)) {
      if (const auto gone = m.element(3).as_pid())
        drop_tasks_of(*gone);
      return;
    }
    if (m.is_tagged("$gen_call", 3)) // {register_client, Pid}, or anything
      return home_.reply(esp::self(), m.element(1), atom("ok"));
    if (m.is_tagged("$gen_cast", 2) && request(m.element(1).elements()))
      return;
    static base::log_limiter limiter;
    limiter.log(base::log_level::info,
                "appmon_info dropped " + m.to_string(200));
  }

  // Whoever is told of the end of a process that the client runs for.
  void left(const esp::pid& who, const term& reason) {
    if (who == starter_ && who != client_)
      esp::exit(reason);
    is_over_ = who == client_;
    drop_tasks_of(who);
  }

  // {From, Command, Aux, OnOff, Options}: on is `true`, off all else.
  bool request(const std::vector<term>& parts) {
    if (parts.size() != 5)
      return false;
    const auto from = parts[0].as_pid();
    const auto when = timing_of(parts[4]);
    const bool is_known =
        parts[1].is_atom("app_ctrl") || parts[1].is_atom("app");
    if (!from || !when || !is_known)
      return false;
    drop_tasks([&](const task& t) {
      return t.from == *from && t.command == parts[1] && t.aux == parts[2];
    });
    if (!parts[3].is_atom("true"))
      return true;
    if (tasks_.size() == max_tasks)
      return false;
    task t{parts[1],       parts[2],     *from,       esp::monitor(*from),
           when->interval, clock::now(), std::nullopt};
    deliver(t);
    if (t.interval)
      tasks_.push_back(std::move(t));
    else
      esp::demonitor(t.watch);
    return true;
  }

  void work() {
    for (task& t : tasks_)
      if (t.due <= clock::now())
        deliver(t);
  }

  void deliver(task& t) {
    static const atom delivery("delivery");
    const term result = t.command.is_atom("app_ctrl") ? applications()
                        : t.aux.is_atom("erlangsp")   ? app(source_(home_))
                                                      : app({});
    if (t.delivered != result)
      esp::send(t.from, term::tuple({delivery, esp::self(), t.command, t.aux,
                                     result}));
    t.delivered = result;
    if (t.interval)
      t.due = clock::now() + *t.interval;
  }

  // [{Master, Name, {Name, Description, Vsn}}], the service being master.
  term applications() {
    static const atom application("application"), which("which_applications");
    const auto root = home_.whereis(atom("erlangsp"));
    call_context c{home_, *node::process::current(), table_, home_.name()};
    const auto there = call(c, application, which, {}).as_list();
    std::vector<term> all;
    for (const term& a : *there)
      if (root)
        all.push_back(term::tuple({root->pid(), a.element(0), a}));
    return term::list(all);
  }

  template <class F>
  void drop_tasks(F&& which) {
    std::erase_if(tasks_, [&](const task& t) {
      if (!which(t))
        return false;
      esp::demonitor(t.watch);
      return true;
    });
  }
  void drop_tasks_of(const esp::pid& who) {
    drop_tasks([&](const task& t) { return t.from == who; });
  }

  node::node& home_;
  const function_table& table_;
  const tree_source& source_;
  const esp::pid starter_, client_;
  std::vector<task> tasks_;
  bool is_over_ = false;
};

// Who has one: observer asks for another each time that its tab is opened, and
// ends the last one only if the node is not hidden.
class clients {
public:
  explicit clients(tree_source source) : source_(std::move(source)) {}

  esp::pid serve(call_context& c, const esp::pid& starter,
                 const esp::pid& client) {
    const std::lock_guard guard(mutex_);
    std::erase_if(servers_, [&c](const auto& of) {
      const auto p = c.home.find(of.second);
      return !p || !p->is_alive();
    });
    if (const auto it = servers_.find(client); it != servers_.end())
      return it->second;
    const auto p = c.home.spawn<node::spawned_process>(
        [this, starter, client, &table = c.table, &home = c.home] {
          appmon_info(home, table, source_, starter, client).run();
        },
        "appmon_info");
    p->set_origin(
        term::tuple({atom("appmon_info"), atom("init"), integer(1)}),
        {term(c.self.pid())});
    p->kick();
    servers_.emplace(client, p->pid());
    return p->pid();
  }

private:
  const tree_source source_;
  std::mutex mutex_;
  std::unordered_map<esp::pid, esp::pid> servers_;
};

} // namespace

void add_appmon_info(function_table& t, tree_source processes) {
  t.add(
      "appmon_info", "start_link2", 3,
      [all = std::make_shared<clients>(std::move(processes))](
          call_context& c, arguments a) {
        const pid client = pid_of(a[1]);
        return term::tuple(
            {atom("ok"),
             all->serve(c, a[0].as_pid().value_or(client), client)});
      },
      effect::looks);
}

} // namespace esp::served
