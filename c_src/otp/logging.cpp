#include "otp/logging.hpp"

#include "esp/process.hpp"

#include "base/log.hpp"
#include "otp/crash_report.hpp"
#include "otp/special_process.hpp"

#include <algorithm>
#include <string>

namespace esp::otp {

namespace {

const atom proxy_name("logger_proxy");

// The number of bytes of the UTF-8 sequence in front of `s`; 0: none is.
std::size_t utf8_length(std::string_view s) {
  const auto byte = [&s](std::size_t i) -> unsigned {
    return static_cast<unsigned char>(s[i]);
  };
  const unsigned lead = byte(0);
  const std::size_t n = lead < 0x80           ? 1
                        : (lead >> 5) == 0x06 ? 2
                        : (lead >> 4) == 0x0E ? 3
                        : (lead >> 3) == 0x1E ? 4
                                              : 0;
  if (n < 2 || s.size() < n)
    return n == 1 ? 1 : 0;
  unsigned long code = lead & (0x7FU >> n);
  for (std::size_t i = 1; i < n; ++i) {
    if ((byte(i) & 0xC0) != 0x80)
      return 0;
    code = (code << 6) | (byte(i) & 0x3F);
  }
  static constexpr unsigned long least[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool is_character =
      code >= least[n] && code <= 0x10FFFF && (code >> 11) != 0x1B;
  return is_character ? n : 0;
}

// As chardata must be; a byte that is none counts as latin-1.
std::string to_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t n = utf8_length(text);
    if (n > 0) {
      out += text.substr(0, n);
    } else {
      const auto b = static_cast<unsigned char>(text[0]);
      out += static_cast<char>(0xC0 | (b >> 6));
      out += static_cast<char>(0x80 | (b & 0x3F));
    }
    text.remove_prefix(std::max<std::size_t>(n, 1));
  }
  return out;
}

// Prints on the spot, on whatever thread: nothing of it is ever sent on, so
// two nodes cannot send each other one event for ever.
class logger_proxy final : public special_process {
public:
  logger_proxy(node::node& home, std::uint64_t number, log_levels& levels)
      : special_process(home, number), levels_(levels) {}

protected:
  std::optional<std::pair<node::message_ptr, node::lane>>
  accept(term m, const std::optional<esp::pid>& from) override {
    if (from && m.is_tagged("$coop", 4)
        && m.element(1).is_atom("log_levels")) {
      if (!levels_.set(*from, m))
        lines_.log(base::log_level::warning,
                   "logger_proxy: no levels: " + m.to_string(200));
      return std::nullopt;
    }
    const auto parts = m.elements();
    if (parts.size() < 4 || parts.size() > 5 || !parts[0].is_atom("log"))
      return special_process::accept(std::move(m), from);
    std::string line =
        "a peer's " + parts[1].to_string(16) + ": " + parts[2].to_string(1'024);
    if (parts.size() == 5)
      line += " " + parts[3].to_string(1'024);
    lines_.log(base::log_level::notice, line);
    return std::nullopt;
  }
  answer state() override { return levels_.shown(); }
  atom module() const override { return proxy_name; }
  void handle_request(node::message&) override {}
  std::optional<std::pair<node::message_ptr, node::lane>>
  accept_own(term) override {
    return std::nullopt;
  }
  void handle_data(node::message_ptr m) override {
    lines_.log(base::log_level::notice,
               "logger_proxy dropped " + m->value.to_term().to_string(200));
  }
  std::string doing() const override { return "logger_proxy"; }

private:
  log_levels& levels_;
  base::log_limiter lines_;
};

// What logger:log/3 takes for one; all else is printed as it is.
bool is_report(const term& t) {
  const auto all = t.as_list();
  return t.kind() == kind::map
         || (all && !all->empty()
             && std::ranges::all_of(*all, [](const term& e) {
                  return e.kind() == kind::tuple && e.arity() == 2;
                }));
}

} // namespace

logging::logging(node::node& home, logging_options o)
    : home_(home),
      options_(o),
      tokens_(o.burst),
      filled_(std::chrono::steady_clock::now()) {
  home_.on_log = [this](const node::process* from, level l, const term& event,
                        const node::node::metadata& more) {
    write(from, l, event, more);
  };
  home_.is_logged = [this](const node::process& from, level l, atom module) {
    return allows(from, l, module);
  };
  home_.on_crash = [](node::process& p, const term& reason) {
    report_crash(p, reason);
  };
}

void logging::start() {
  const auto proxy = home_.spawn<logger_proxy>(levels_);
  proxy->set_origin(
      term::tuple({proxy_name, atom("init"), term::integer(1)}), {});
  home_.register_name(proxy_name, proxy);
}

// A bucket of tokens, filled as time goes by.
bool logging::may_send(std::uint64_t& left_out) {
  const std::lock_guard guard(mutex_);
  const auto now = std::chrono::steady_clock::now();
  const std::chrono::duration<double> passed = now - filled_;
  filled_ = now;
  tokens_ = std::min<double>(options_.burst,
                             tokens_ + passed.count() * options_.per_second);
  if (tokens_ < 1) {
    ++left_out_;
    ++dropped_;
    return false;
  }
  tokens_ -= 1;
  left_out = std::exchange(left_out_, 0);
  return true;
}

std::uint64_t logging::dropped() const {
  const std::lock_guard guard(mutex_);
  return dropped_;
}

// Null: no VM is there.
node::peer_ptr logging::target_of(const std::optional<pid>& leader) const {
  auto p = leader ? home_.connections().find(leader->node) : nullptr;
  return p ? p : home_.connections().find(home_.log_node());
}

bool logging::allows(const node::process& from, level l, atom module) const {
  const auto p = target_of(from.leader());
  return !p || levels_.allows(p->name(), p->creation(), l, module);
}

void logging::write(const node::process* from, level l, const term& event,
                    const node::node::metadata& more) {
  static const atom log("log"), pid_("pid"), time("time"), gl("gl");
  std::optional<pid> leader;
  if (from != nullptr)
    leader = from->leader();
  const auto p = target_of(leader);
  std::uint64_t left_out = 0;
  if (!p || p->is_congested()) {
    const std::lock_guard guard(mutex_);
    ++dropped_;
    return;
  }
  if (!may_send(left_out))
    return;
  const pid who = from != nullptr ? from->pid() : home_.pid_of(0);
  const auto now = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::system_clock::now().time_since_epoch());
  node::node::metadata meta{{pid_, who}, {time, term::integer(now.count())}};
  // A leader of ours would have the event sent back to us.
  const bool is_led_there = leader && leader->node == p->name();
  if (is_led_there)
    meta.emplace_back(gl, *leader);
  for (const auto& m : more)
    if ((m.first != term(gl) || is_led_there)
        && std::ranges::none_of(
            meta, [&m](const auto& has) { return has.first == m.first; }))
      meta.emplace_back(m.first, cut(m.second, options_.max_event));
  const term metadata = term::map(meta);
  const auto send = [&](level at, std::vector<term> what) {
    what.insert(what.begin(), {log, atom_of(at)});
    what.push_back(metadata);
    p->send(dist::reg_send{who, proxy_name, term::tuple(what), std::nullopt});
  };
  if (left_out > 0)
    send(level::warning,
         {term::binary(std::to_string(left_out)
                       + " log events of this node were left out")});
  const auto text = event.as_binary();
  const term shown = cut(text ? term::binary(to_utf8(*text)) : event,
                         options_.max_event);
  if (shown.kind() == kind::binary || is_report(shown))
    send(l, {shown});
  else
    send(l, {term::string("~tp"),
             term::list(std::initializer_list<term>{shown})});
}

term external_fun(std::string_view module, std::string_view name,
                  std::uint8_t arity) {
  std::vector<std::byte> b{std::byte{131}, std::byte{113}};
  for (const std::string_view s : {module, name}) {
    b.push_back(std::byte{119});
    b.push_back(static_cast<std::byte>(s.size()));
    for (const char c : s)
      b.push_back(static_cast<std::byte>(c));
  }
  b.push_back(std::byte{97});
  b.push_back(std::byte{arity});
  const auto t = term::decode(b);
  return t ? *t : term();
}

term cut(const term& t, std::size_t limit) {
  if (t.bytes().size() <= limit)
    return t;
  if (const auto text = t.as_binary()) {
    std::size_t n = limit; // not within a character
    while (n > 0 && (static_cast<unsigned char>((*text)[n]) & 0xC0) == 0x80)
      --n;
    return term::binary(std::string(text->substr(0, n)) + "...");
  }
  return term::binary(to_utf8(t.to_string(limit)));
}

} // namespace esp::otp
