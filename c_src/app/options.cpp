#include "app/options.hpp"

#include <boost/program_options.hpp>

#include <sstream>

namespace esp::app {

namespace po = boost::program_options;

namespace {

served::policy policy_of(const std::string& name) {
  if (name == "all")
    return served::policy::all;
  if (name == "inspect")
    return served::policy::inspect;
  if (name == "none")
    return served::policy::none;
  throw po::error("--rpc wants all, inspect or none");
}

} // namespace

options read_options(int argc, const char* const* argv) {
  options o;
  auto& p = o.node.peers;
  auto& w = o.node.workers;
  std::vector<std::string> cookies;
  std::string rpc = "all";
  std::uint64_t ticktime = 60, setuptime = 7'000, stack_kib = w.stack_size >> 10;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  stack_kib = 256; // redzones and shadow frames
#endif
  po::options_description all("esp_node --name NAME@HOST [options]");
  all.add_options()
      ("help", po::bool_switch(&o.show_help), "this text")
      ("name", po::value(&p.node_name), "node name, name@host")
      ("owner", po::value(&o.node.owner),
       "node whose logger hears of events")
      ("cookie-file", po::value(&o.cookie_file),
       "file with the cookie; without it, the first line of standard input, "
       "whose end then is the end of this node")
      ("cookie", po::value(&cookies),
       "NODE=FILE, a cookie for one peer; may be repeated")
      ("workers", po::value(&w.workers), "worker threads; 0: one for each core")
      ("stack", po::value(&stack_kib), "stack of a task, in KiB")
      ("max-blocked", po::value(&w.max_blocked), "tasks blocked at once")
      ("plugin", po::value(&o.plugins), "file to load; may be repeated")
      ("rpc", po::value(&rpc),
       "what nodes other than the owner may call: all, inspect or none")
      ("hidden", po::value(&p.hidden), "true or false")
      ("listen-port", po::value(&p.listen_port), "0: any")
      ("listen-address", po::value(&p.listen_addresses),
       "instead of loopback and the host of the name; may be repeated")
      ("epmd-address", po::value(&p.epmd_address))
      ("epmd-port", po::value(&p.epmd_port))
      ("use-epmd", po::value(&p.use_epmd), "true or false")
      ("net-setuptime", po::value(&setuptime), "handshake, in ms")
      ("net-ticktime", po::value(&ticktime), "in seconds")
      ("max-signal", po::value(&p.max_signal), "bytes")
      ("max-depth", po::value(&p.max_depth), "of a term")
      ("max-inflated", po::value(&p.max_inflated), "bytes")
      ("max-output", po::value(&p.max_output),
       "bytes waiting for one peer, which then is lost")
      ("max-fragment-sequences", po::value(&p.max_fragment_sequences))
      ("max-connections", po::value(&p.max_connections))
      ("max-pending-handshakes", po::value(&p.max_pending_handshakes))
      ("log-level", po::value(&o.log_level),
       "error, warning, notice, info or debug");
  po::variables_map values;
  po::store(po::parse_command_line(argc, argv, all), values);
  po::notify(values);
  std::ostringstream text;
  text << all;
  o.help = text.str();
  if (o.show_help)
    return o;
  if (p.node_name.find('@') == std::string::npos)
    throw po::error("--name NAME@HOST is missing");
  for (const auto& c : cookies) {
    const auto eq = c.find('=');
    if (eq == std::string::npos)
      throw po::error("--cookie wants NODE=FILE");
    p.cookies.emplace_back(c.substr(0, eq), c.substr(eq + 1));
  }
  o.rpc = policy_of(rpc);
  w.stack_size = stack_kib << 10;
  p.net_setuptime = std::chrono::milliseconds(setuptime);
  p.net_ticktime = std::chrono::seconds(ticktime);
  return o;
}

} // namespace esp::app
