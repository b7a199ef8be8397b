// What stream.cpp and listener.cpp know of a stream's socket.

#pragma once

#include "net/stream.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

namespace esp::net {

struct stream::state {
  explicit state(boost::asio::io_context& c) : socket(c) {}
  explicit state(boost::asio::ip::tcp::socket s) : socket(std::move(s)) {}

  boost::asio::ip::tcp::socket socket;
  std::shared_ptr<user> reader;
  std::vector<endpoint> targets;
  std::function<void(result<void>)> on_connected;
  bool is_reading = false;
};

} // namespace esp::net
