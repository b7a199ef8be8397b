#include "app/wire_up.hpp"

#include "app/exposed.hpp"
#include "app/known.hpp"
#include "coop/coop_service.hpp"
#include "otp/logging.hpp"
#include "rpc/offer.hpp"

#include <csignal>
#include <cstdlib>
#include <iostream>
#include <unistd.h>

namespace esp::app {

engine::engine(options o)
    : options_(std::move(o)), node_(options_.node),
      logging_(std::make_unique<otp::logging>(node_)) {
  node_.workers().on_abandoned([](std::vector<sched::runnable_ptr> stuck) {
    for (const auto& r : stuck) {
      const auto& p = static_cast<node::process&>(*r);
      std::cerr << "esp_node: abandoned: " << p.what_it_does() << ", process "
                << term(p.pid()).to_string() << '\n';
    }
    std::cerr << "esp_node: too many threads run tasks that were killed"
              << std::endl;
    std::_Exit(3);
  });
  // init:stop/0 is the same to this OS process as a polite signal.
  served::offer(node_, functions_, traces_, [] { ::kill(::getpid(), SIGTERM); },
                knowledge_of(tasks_));
  functions_.restrict_to(options_.rpc, atom(options_.node.owner));
  publish_exposed(tasks_, functions_);
}

engine::~engine() = default;

result<void> engine::start() {
  for (const auto& p : options_.plugins)
    if (const auto loaded = tasks_.load(p); !loaded)
      return loaded.error();
  if (auto started = node_.start(); !started)
    return started;
  logging_->start();
  served::start_servers(node_, functions_);
  static const atom service_name("erlangsp");
  const auto service = node_.spawn<coop::coop_service>(tasks_);
  service->set_origin(
      term::tuple({service_name, atom("init"), term::integer(1)}), {});
  node_.register_name(service_name, service);
  return {};
}

void engine::stop() { node_.stop(); }

} // namespace esp::app
