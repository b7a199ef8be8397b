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

atom atom_of(level l) {
  static const atom names[] = {atom("debug"), atom("info"), atom("notice"),
                               atom("warning"), atom("error")};
  return names[static_cast<std::size_t>(l)];
}

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
  using special_process::special_process;

protected:
  std::optional<std::pair<node::message_ptr, node::lane>>
  accept(term m, const std::optional<esp::pid>& from) override {
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
  answer state() override { return term(atom("undefined")); }
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
  base::log_limiter lines_;
};

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
  home_.on_crash = [](node::process& p, const term& reason) {
    report_crash(p, reason);
  };
}

void logging::start() {
  const auto proxy = home_.spawn<logger_proxy>();
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

void logging::write(const node::process* from, level l, const term& event,
                    const node::node::metadata& more) {
  static const atom log("log"), pid_("pid"), time("time"), gl("gl");
  std::optional<pid> leader;
  if (from != nullptr)
    leader = from->leader();
  auto p = leader ? home_.connections().find(leader->node) : nullptr;
  if (!p)
    p = home_.connections().find(home_.log_node());
  std::uint64_t left_out = 0;
  if (!p || p->is_congested()) {
    const std::lock_guard guard(mutex_);
    ++dropped_;
    return;
  }
  if (!may_send(left_out))
    return;
  const pid who = from != nullptr ? from->pid() : home_.pid_of(0);
  node::node::metadata meta = more;
  const auto now = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::system_clock::now().time_since_epoch());
  meta.emplace_back(pid_, who);
  meta.emplace_back(time, term::integer(now.count()));
  // A leader of ours would have the event sent back to us.
  if (leader && leader->node == p->name())
    meta.emplace_back(gl, *leader);
  const term metadata = term::map(meta);
  const auto send = [&](level at, const term& what) {
    p->send(dist::reg_send{who, proxy_name,
                           term::tuple({log, atom_of(at), what, metadata}),
                           std::nullopt});
  };
  if (left_out > 0)
    send(level::warning,
         term::binary(std::to_string(left_out)
                      + " log events of this node were left out"));
  if (const auto text = event.as_binary())
    send(l, cut(term::binary(to_utf8(*text)), options_.max_event));
  else
    send(l, cut(event, options_.max_event));
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
