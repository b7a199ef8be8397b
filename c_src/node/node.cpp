#include "node/node.hpp"

#include "base/log.hpp"
#include "node/tracing.hpp"

#include <algorithm>
#include <chrono>
#include <initializer_list>
#include <random>
#include <system_error>
#include <thread>
#include <type_traits>

namespace esp::node {

namespace {

const atom noproc("noproc");

template <class... Fs>
struct overloaded : Fs... {
  using Fs::operator()...;
};
template <class... Fs>
overloaded(Fs...) -> overloaded<Fs...>;

// {Name, Node} of a signal that names its target.
using dist::pid_or_name;

} // namespace

// Read from its bytes: these lists are improper, and their tails are all that
// counts.
std::optional<ref> alias_of(const term& tag) {
  auto b = tag.bytes();
  const auto starts_with = [&b](std::initializer_list<unsigned char> head) {
    return b.size() >= head.size()
           && std::equal(head.begin(), head.end(), b.begin(),
                         [](unsigned char x, std::byte y) {
                           return std::byte{x} == y;
                         });
  };
  for (int depth = 0; depth < 2 && starts_with({108, 0, 0, 0, 1}); ++depth)
    b = b.subspan(5);
  if (starts_with({119, 5, 'a', 'l', 'i', 'a', 's'}))
    b = b.subspan(7);
  else if (starts_with({118, 0, 5, 'a', 'l', 'i', 'a', 's'})
           || starts_with({100, 0, 5, 'a', 'l', 'i', 'a', 's'}))
    b = b.subspan(8);
  else
    return std::nullopt;
  if (!starts_with({90, 0}) || b.size() < 6)
    return std::nullopt;
  const auto byte = [&b](std::size_t i) {
    return std::to_integer<std::size_t>(b[i]);
  };
  const std::size_t atom_size
      = byte(3) == 119 || byte(3) == 115 ? 2 + byte(4)
                                         : 3 + (byte(4) << 8 | byte(5));
  const std::size_t size = 3 + atom_size + 4 + 4 * byte(2);
  if (size > b.size())
    return std::nullopt;
  std::vector<std::byte> external{std::byte{131}};
  external.insert(external.end(), b.begin(),
                  b.begin() + static_cast<std::ptrdiff_t>(size));
  const auto t = term::decode(external);
  return t ? t->as_ref() : std::nullopt;
}

node::node(node_options o)
    : options_(std::move(o)), name_(options_.peers.node_name),
      ref_salt_(std::random_device{}()),
      peers_(options_.make_peers ? options_.make_peers(*this)
                                 : make_peers(options_.peers, *this)),
      workers_(options_.workers) {
  workers_.on_pause([this] { flush(); });
  workers_.on_overdue([this] {
    for (const auto& p : peers_->connected())
      p->flush();
    look_at_ends();
  });
  on_log = [](const process*, esp::level, const term&, const metadata&) {};
  on_crash = [](process&, const term&) {};
  on_spawn_request = [](const dist::spawn_request&) {
    return std::variant<process_ptr, atom>(atom("notsup"));
  };
}

node::~node() { peers_->stop(); } // no signal comes while the workers end

result<void> node::start() {
  auto started = peers_->start();
  creation_ = peers_->creation();
  return started;
}

// By number: what has ended by then is found no more, and nothing is kept.
void node::told_to_end(const process& p) {
  const std::lock_guard guard(ends_mutex_);
  ends_.emplace_back(process::clock::now() + workers_.config().takeover,
                     p.number());
}

void node::look_at_ends() {
  const auto now = process::clock::now();
  for (;;) {
    process_ptr p;
    {
      const std::lock_guard guard(ends_mutex_);
      if (ends_.empty() || ends_.front().first > now)
        return;
      p = find(ends_.front().second);
      ends_.pop_front();
    }
    if (p)
      p->end_is_overdue();
  }
}

void node::stop() {
  static const atom shutdown("shutdown"), kill("kill");
  using namespace std::chrono_literals;
  for (const auto& [reason, limit] :
       {std::pair(shutdown, 1'000ms), std::pair(kill, 500ms)}) {
    for (const auto& p : table_.all())
      p->end(reason);
    // Nothing tells when the last one is gone; this is the way out.
    for (auto left = limit; left > 0ms && table_.size() > 0; left -= 5ms)
      std::this_thread::sleep_for(5ms);
  }
  peers_->stop();
}

// ---- Numbers and names -----------------------------------------------------

std::uint64_t node::reserve_number() {
  const auto n = table_.reserve();
  if (n == 0)
    throw std::system_error(
        std::make_error_code(std::errc::resource_unavailable_try_again),
        "system_limit");
  return n;
}

// The low 15 bits make the id, the next 13 the serial, and the rest goes on
// top of both: the first 2^28 are valid towards an OTP 23 as well.
pid node::pid_of(std::uint64_t n) const noexcept {
  const auto top = n >> 28;
  return {name_,
          static_cast<std::uint32_t>((n & 0x7FFF) | ((top & 0x1FFFF) << 15)),
          static_cast<std::uint32_t>(((n >> 15) & 0x1FFF)
                                     | ((top >> 17) << 13)),
          creation_};
}

std::uint64_t node::number_of(const pid& p) const noexcept {
  if (p.node != name_ || p.creation != creation_)
    return 0;
  const std::uint64_t top = (p.id >> 15) | (std::uint64_t{p.serial >> 13} << 17);
  return (p.id & 0x7FFF) | (std::uint64_t{p.serial & 0x1FFF} << 15)
         | (top << 28);
}

process_ptr node::find(const pid& p) const noexcept {
  const auto n = number_of(p);
  return n == 0 ? nullptr : table_.find(n);
}

void node::forget(process& p, atom registered) {
  if (registered != atom()) {
    const std::lock_guard guard(mutex_);
    if (const auto it = names_.find(registered);
        it != names_.end() && it->second == p.number())
      names_.erase(it);
  }
  table_.erase(p.number());
}

bool node::register_name(atom n, const process_ptr& p) {
  {
    const std::lock_guard guard(mutex_);
    if (p->name() != atom() || p->has_ended()
        || !names_.try_emplace(n, p->number()).second)
      return false;
    p->set_name(n);
    if (p->has_ended()) { // its end may not have seen it
      names_.erase(n);
      return false;
    }
  }
  tell_named(n, p, "register");
  return true;
}

bool node::unregister_name(atom n) {
  process_ptr p;
  {
    const std::lock_guard guard(mutex_);
    const auto it = names_.find(n);
    if (it == names_.end())
      return false;
    p = table_.find(it->second);
    if (p)
      p->set_name(atom());
    names_.erase(it);
  }
  if (p)
    tell_named(n, p, "unregister");
  return true;
}

void node::tell_named(atom n, const process_ptr& p, std::string_view what) {
  if (p->is_traced())
    traces_->event(*p, atom(what), n);
}

process_ptr node::whereis(atom n) const {
  const std::lock_guard guard(mutex_);
  const auto it = names_.find(n);
  return it == names_.end() ? nullptr : table_.find(it->second);
}

std::vector<atom> node::registered() const {
  const std::lock_guard guard(mutex_);
  std::vector<atom> all;
  for (const auto& [n, number] : names_)
    all.push_back(n);
  return all;
}

ref node::make_ref() {
  const auto n = ++refs_;
  ref r;
  r.node = name_;
  r.creation = creation_;
  r.count = 3;
  r.words[0] = static_cast<std::uint32_t>(n & 0x3FFFF);
  r.words[1] = static_cast<std::uint32_t>(n >> 18);
  r.words[2] = ref_salt_;
  return r;
}

ref node::make_alias(const process& p) {
  const ref r = make_ref();
  const std::lock_guard guard(mutex_);
  aliases_.emplace(r, p.number());
  return r;
}

process_ptr node::with_alias(const ref& r) const {
  const std::lock_guard guard(mutex_);
  const auto it = aliases_.find(r);
  return it == aliases_.end() ? nullptr : table_.find(it->second);
}

void node::drop_alias(const ref& r) {
  const std::lock_guard guard(mutex_);
  aliases_.erase(r);
}

atom node::log_node() const {
  const std::lock_guard guard(mutex_);
  return options_.owner.empty() ? first_peer_ : atom(options_.owner);
}

pid node::default_leader() const {
  const std::lock_guard guard(mutex_);
  return leader_ ? *leader_ : pid{name_, 0, 0, creation_};
}

void node::set_default_leader(const pid& leader) {
  const std::lock_guard guard(mutex_);
  leader_ = leader;
}

// ---- Sending ---------------------------------------------------------------

namespace {

// Where a signal goes, and whether it may open a connection for that.
struct route {
  atom node;
  bool dial;
};

route route_of(const dist::control& c) {
  return std::visit(
      overloaded{
          [](const dist::link& s) { return route{s.to.node, true}; },
          [](const dist::unlink& s) { return route{s.to.node, false}; },
          [](const dist::unlink_ack& s) { return route{s.to.node, false}; },
          [](const dist::exit& s) { return route{s.to.node, false}; },
          [](const dist::exit2& s) { return route{s.to.node, true}; },
          [](const dist::send& s) {
            return std::visit(
                overloaded{[](const pid& p) { return route{p.node, true}; },
                           [](const ref& r) { return route{r.node, false}; }},
                s.to);
          },
          [](const dist::reg_send&) { return route{atom(), false}; },
          [](const dist::group_leader& s) { return route{s.to.node, true}; },
          [](const dist::monitor&) { return route{atom(), false}; },
          [](const dist::demonitor&) { return route{atom(), false}; },
          [](const dist::monitor_exit& s) { return route{s.to.node, false}; },
          [](const dist::spawn_request&) { return route{atom(), false}; },
          [](const dist::spawn_reply& s) { return route{s.to.node, false}; },
      },
      c);
}

} // namespace

void node::send(const dist::control& c) {
  const route r = route_of(c);
  if (r.node == name_)
    return deliver(c);
  if (const auto* e = std::get_if<dist::exit>(&c)) {
    // An exit towards a former life of that node would cost the connection.
    const auto p = peers_->find(r.node);
    if (p && p->creation() == e->to.creation)
      p->send(c);
    return;
  }
  if (r.dial)
    peers_->send(r.node, c);
  else if (const auto p = peers_->find(r.node))
    p->send(c);
}

bool node::is_tracing() const noexcept {
  return traces_ != nullptr && traces_->is_on();
}

void node::tell_sent(const pid& from, const term& to, bool exists,
                     const term& m) {
  const auto by = find(from);
  if (by && by->is_traced())
    traces_->sent(*by, m, to, exists);
}

void node::send_message(const pid& from, const pid& to, const term& m,
                        const std::optional<seq_token>& token) {
  if (to.node == name_) {
    const auto p = find(to);
    if (is_tracing())
      tell_sent(from, to, p && !p->has_ended(), m);
    if (p)
      p->deliver(m, from, token);
    return;
  }
  if (is_tracing())
    tell_sent(from, to, true, m);
  send(dist::send{from, to, m, on_wire(token)});
}

void node::send_message(const pid& from, atom to, atom at_node, const term& m,
                        const std::optional<seq_token>& token) {
  if (at_node == name_ || at_node == atom()) {
    const auto p = whereis(to);
    if (is_tracing())
      tell_sent(from, to, p && !p->has_ended(), m);
    if (p)
      p->deliver(m, from, token);
    return;
  }
  if (is_tracing())
    tell_sent(from, term::tuple({to, at_node}), true, m);
  peers_->send(at_node, dist::reg_send{from, to, m, on_wire(token)});
}

void node::reply(const pid& from, const term& to, const term& answer) {
  const auto parts = to.elements();
  if (parts.size() != 2)
    return;
  const auto caller = parts[0].as_pid();
  if (!caller)
    return;
  const term m = term::tuple({parts[1], answer});
  const bool is_here = caller->node == name_;
  dist::send s{from, *caller, m, std::nullopt};
  const auto alias = alias_of(parts[1]);
  if (alias)
    s.to = *alias;
  const auto shown = [&] { return alias ? term(*alias) : term(*caller); };
  if (is_tracing())
    tell_sent(from, shown(),
              !is_here
                  || (alias ? with_alias(*alias) : find(*caller)) != nullptr,
              m);
  process* const me = process::current();
  if (me != nullptr && me->has_token() && me->pid() == from)
    s.token = on_wire(me->seq_send(shown(), m));
  if (is_here)
    deliver(s);
  else // may never have been here: a head on another node has passed it on
    peers_->send(caller->node, s);
}

void node::send_monitor(const pid& from, const pid_or_name& to, atom at_node,
                        const ref& r) {
  const dist::monitor m{from, to, r};
  if (at_node == name_)
    deliver(m);
  else
    peers_->send(at_node, m);
}

void node::send_demonitor(const pid& from, const pid_or_name& to,
                          atom at_node, const ref& r) {
  const dist::demonitor d{from, to, r};
  if (at_node == name_)
    deliver(d);
  else if (const auto p = peers_->find(at_node))
    p->send(d);
}

void node::send_spawn_request(atom at_node, const dist::spawn_request& r) {
  if (at_node == name_)
    deliver(r);
  else
    peers_->send(at_node, r);
}

// ---- Arriving --------------------------------------------------------------

std::optional<seq_token> node::token_of(const dist::trace_token& t) const {
  auto token = t ? seq_token::read(*t) : std::nullopt;
  if (token)
    token->resets = seq_trace_.resets();
  return token;
}

void node::deliver(const dist::control& c) {
  const auto at = [this](const pid_or_name& to) {
    return std::visit(
        overloaded{[this](const pid& p) { return find(p); },
                   [this](atom n) { return whereis(n); }},
        to);
  };
  std::visit(
      overloaded{
          [&](const dist::link& s) {
            const auto p = find(s.to);
            if (!p || !p->receive_link(s.from))
              send(dist::exit{s.to, s.from, noproc, std::nullopt});
          },
          [&](const dist::unlink& s) {
            // Acknowledged before anything else goes to that process.
            if (s.id != 0)
              send(dist::unlink_ack{s.id, s.to, s.from});
            if (const auto p = find(s.to))
              p->receive_unlink(s.from, s.id);
          },
          [&](const dist::unlink_ack& s) {
            if (const auto p = find(s.to))
              p->receive_unlink_ack(s.from, s.id);
          },
          [&](const dist::exit& s) {
            if (const auto p = find(s.to))
              p->receive_exit(s.from, s.reason, true);
          },
          [&](const dist::exit2& s) {
            process_ptr p;
            if (const auto* alias = std::get_if<ref>(&s.instead))
              p = with_alias(*alias);
            else if (const auto* n = std::get_if<atom>(&s.instead))
              p = whereis(*n);
            else
              p = find(s.to);
            if (p)
              p->receive_exit(s.from, s.reason, false, s.priority);
          },
          [&](const dist::send& s) {
            const auto* alias = std::get_if<ref>(&s.to);
            const process_ptr p = alias != nullptr
                                      ? with_alias(*alias)
                                      : find(std::get<pid>(s.to));
            if (p == nullptr)
              return;
            const auto token = token_of(s.token);
            if (alias != nullptr
                && p->receive_answer(*alias,
                                     process::answer_of(s.message, token))) {
              if (p->is_traced())
                traces_->received(*p, s.message, s.from);
            } else {
              p->deliver(s.message, s.from, token, s.priority);
            }
          },
          [&](const dist::reg_send& s) {
            if (const auto p = whereis(s.to))
              p->deliver(s.message, s.from, token_of(s.token),
                         s.priority);
          },
          [&](const dist::group_leader& s) {
            if (const auto p = find(s.to))
              p->receive_leader(s.leader);
          },
          [&](const dist::monitor& s) {
            const auto p = at(s.to);
            if (!p || !p->receive_monitor(s.from, s.to, s.ref))
              send(dist::monitor_exit{s.to, s.from, s.ref, noproc});
          },
          [&](const dist::demonitor& s) {
            if (const auto p = at(s.to))
              p->receive_demonitor(s.from, s.ref);
          },
          [&](const dist::monitor_exit& s) {
            if (const auto p = find(s.to))
              p->receive_down(s);
          },
          [&](const dist::spawn_request& s) {
            const auto made = on_spawn_request(s);
            if (const auto* refused = std::get_if<atom>(&made)) {
              send(dist::spawn_reply{s.ref, s.from, false, false, *refused,
                                     std::nullopt});
              return;
            }
            // The link and the monitor exist before the reply says so, and
            // the reply goes out before anything of the process can.
            const auto& p = std::get<process_ptr>(made);
            bool linked = false, monitored = false;
            for (const auto& o : s.options.as_list().value_or(
                     std::vector<term>{})) {
              linked = linked || o.is_atom("link");
              monitored = monitored || o.is_atom("monitor")
                          || o.is_tagged("monitor", 2);
            }
            if (linked)
              p->receive_link(s.from);
            if (monitored)
              p->receive_monitor(s.from, p->pid(), s.ref);
            p->receive_leader(s.leader);
            dist::spawn_reply reply{s.ref,     s.from,   linked,
                                    monitored, p->pid(), std::nullopt};
            if (const auto token = token_of(s.token))
              reply.token = on_wire(p->spawned_under(*token, s));
            send(reply);
            p->kick();
          },
          [&](const dist::spawn_reply& s) {
            static const atom tag("spawn_reply");
            const term who = std::visit([](auto v) { return term(v); },
                                        s.result);
            // Whoever asked and has given up wants to hear no more of it.
            if (const auto p = find(s.to))
              p->receive_answer(
                  s.ref, std::make_unique<message>(
                             what::down,
                             datum::of(term::tuple({tag, s.ref, who}))));
          },
      },
      c);
}

void node::on_up(const peer_ptr& p) {
  {
    const std::lock_guard guard(mutex_);
    if (first_peer_ == atom())
      first_peer_ = p->name();
    up_.push_back(p);
  }
  if (on_nodes.node_up)
    on_nodes.node_up(p->name());
}

node::traffic node::count_traffic() const {
  const std::lock_guard guard(mutex_);
  traffic all = of_the_gone_;
  for (const auto& p : up_) {
    all.in += p->count().bytes_in;
    all.out += p->count().bytes_out;
  }
  return all;
}

// Signals that OTP takes from their sender's own node only; a peer that sends
// them for another one is not to be believed (protocol.md, section 20).
void node::on_signal(const peer_ptr& p, dist::control&& c) {
  const pid* const from = std::visit(
      overloaded{[](const dist::link& s) { return &s.from; },
                 [](const dist::unlink& s) { return &s.from; },
                 [](const dist::unlink_ack& s) { return &s.from; },
                 [](const dist::exit& s) { return &s.from; },
                 [](const dist::exit2& s) { return &s.from; },
                 [](const dist::monitor& s) { return &s.from; },
                 [](const dist::demonitor& s) { return &s.from; },
                 [](const dist::spawn_request& s) { return &s.from; },
                 [](const auto&) { return static_cast<const pid*>(nullptr); }},
      c);
  if (from != nullptr && from->node != p->name())
    return p->close("a signal from a process of another node");
  // Messages may say what they like of their sender; nobody is to believe it.
  if (auto* s = std::get_if<dist::reg_send>(&c);
      s != nullptr && s->from.node != p->name())
    s->from = pid();
  if (auto* s = std::get_if<dist::send>(&c);
      s != nullptr && s->from && s->from->node != p->name())
    s->from.reset();
  deliver(c);
}

void node::on_down(const peer_ptr& p, const std::string& why) {
  base::log(base::log_level::info,
           "connection to " + std::string(p->name().name()) + " lost: " + why);
  {
    const std::lock_guard guard(mutex_);
    of_the_gone_.in += p->count().bytes_in;
    of_the_gone_.out += p->count().bytes_out;
    std::erase(up_, p);
  }
  lost(p->name());
  if (on_nodes.node_down)
    on_nodes.node_down(p->name());
}

void node::on_unreachable(atom node_name, const std::string& why) {
  base::log(base::log_level::debug, "cannot reach " + std::string(node_name.name())
                                 + ": " + why);
  lost(node_name);
}

void node::lost(atom node_name) {
  for (const auto& p : table_.all())
    p->receive_node_down(node_name);
  seq_trace_.lost(node_name);
  const std::lock_guard guard(mutex_);
  if (first_peer_ == node_name)
    first_peer_ = atom();
}

} // namespace esp::node
