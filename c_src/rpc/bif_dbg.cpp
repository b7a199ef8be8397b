// dbg's relay, as far as etop needs it to run: it asks for a port tracer and
// connects to that. Nothing is traced here, so nothing comes from it.

#include "esp/process.hpp"

#include "net/address.hpp"
#include "rpc/bifs.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace esp::served {

namespace {

// A fun of module dbg whose only free variables are [QueueSize, Port]: what
// dbg:trace_port(ip, _) makes. External format: 112, Size:32, Arity, Uniq:128,
// Index:32, NumFree:32, Module, OldIndex, OldUniq, Pid, the free variables.
std::optional<std::uint16_t> port_of(const term& fun) {
  constexpr std::size_t fixed = 30;
  constexpr unsigned char two_free = 2;
  const auto b = fun.bytes();
  if (b.size() < fixed + 1 || b[0] != std::byte{112})
    return std::nullopt;
  for (std::size_t i = 0; i < 4; ++i)
    if (b[fixed - 4 + i] != (i == 3 ? std::byte{two_free} : std::byte{0}))
      return std::nullopt;
  std::vector<std::byte> parts{std::byte{131}, std::byte{104},
                               std::byte{4 + two_free}};
  parts.insert(parts.end(), b.begin() + fixed, b.end());
  const auto t = term::decode(parts);
  if (!t || !t->element(0).is_atom("dbg"))
    return std::nullopt;
  const auto port = t->element(5).as_integer();
  if (!t->element(4).as_integer() || !port || *port < 0 || *port > 0xFFFF)
    return std::nullopt;
  return static_cast<std::uint16_t>(*port);
}

// Who connects to it waits for trace messages for as long as it is there. It
// never accepts: the kernel completes the connection, and none would be sent.
class silent_port {
public:
  silent_port(const std::string& address, std::uint16_t port)
      : descriptor_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(port);
    const int on = 1;
    is_open_ =
        descriptor_ >= 0
        && ::inet_pton(AF_INET, address.c_str(), &at.sin_addr) == 1
        && ::setsockopt(descriptor_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on)
               == 0
        && ::bind(descriptor_, reinterpret_cast<const sockaddr*>(&at),
                  sizeof at)
               == 0
        && ::listen(descriptor_, 1) == 0;
  }
  silent_port(const silent_port&) = delete;
  silent_port& operator=(const silent_port&) = delete;
  ~silent_port() {
    if (descriptor_ >= 0)
      ::close(descriptor_);
  }
  bool is_open() const noexcept { return is_open_; }

private:
  const int descriptor_;
  bool is_open_ = false;
};

std::string own_address(const call_context& c) {
  const auto name = c.home.name().name();
  const auto found =
      net::resolve_now(std::string(name.substr(name.find('@') + 1)));
  return found && !found->empty() ? found->front() : std::string();
}

// dbg waits for {started, Tracer} from whatever it spawns, for ever if need be.
// Tracers of other types are refused after it, by an end that makes dbg forget
// the node.
// Since OTP 27 it has a name for its session and hears of that, too.
term do_relay(call_context& c, const pid& dbg, const term& tracer,
              bool of_session) {
  static const atom started("started"), not_supported("not_supported"),
      process("process"), ok("ok");
  esp::trap_exit(true);
  (void)esp::monitor(dbg);
  const auto is_pair = tracer.kind() == kind::tuple && tracer.arity() == 2;
  const auto port = is_pair && tracer.element(0).is_atom("port")
                        ? port_of(tracer.element(1))
                        : std::nullopt;
  std::optional<silent_port> open;
  if (port)
    open.emplace(own_address(c), *port);
  esp::send(dbg, of_session
                     ? term::tuple({started, esp::self(), esp::self()})
                     : term::tuple({started, esp::self()}));
  if (!open || !open->is_open())
    esp::exit(term::tuple(
        {not_supported, is_pair ? tracer.element(0) : term(process)}));
  (void)esp::receive([](const term& m) {
    return m.is_tagged("EXIT", 3) || m.is_tagged("DOWN", 5);
  });
  return ok;
}

} // namespace

void add_dbg(function_table& t) {
  t.add("dbg", "do_relay", 2, [](call_context& c, arguments a) {
    return do_relay(c, pid_of(a[0]), a[1], false);
  });
  t.add("dbg", "do_relay", 3, [](call_context& c, arguments a) {
    return do_relay(c, pid_of(a[1]), a[2], true);
  });
}

} // namespace esp::served
