#include "net/address.hpp"

#include <arpa/inet.h>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <ifaddrs.h>
#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>

namespace esp::net {

namespace {

using tcp = boost::asio::ip::tcp;

void add_once(std::vector<std::string>& all, std::string one) {
  if (std::find(all.begin(), all.end(), one) == all.end()) {
    all.push_back(std::move(one));
  }
}

} // namespace

bool is_address(const std::string& text) noexcept {
  boost::system::error_code error;
  boost::asio::ip::make_address(text, error);
  return !error;
}

bool is_own_address(const std::string& text) {
  boost::system::error_code error;
  auto address = boost::asio::ip::make_address(text, error);
  if (error) {
    return false;
  }
  if (address.is_v6() && address.to_v6().is_v4_mapped()) {
    address = boost::asio::ip::make_address_v4(boost::asio::ip::v4_mapped,
                                               address.to_v6());
  }
  if (address.is_loopback()) {
    return true;
  }
  ifaddrs* first = nullptr;
  if (::getifaddrs(&first) != 0) {
    return false;
  }
  std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> all{first, ::freeifaddrs};
  for (const ifaddrs* at = first; at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr == nullptr) {
      continue;
    }
    if (at->ifa_addr->sa_family == AF_INET && address.is_v4()) {
      const auto* in = reinterpret_cast<const sockaddr_in*>(at->ifa_addr);
      if (ntohl(in->sin_addr.s_addr) == address.to_v4().to_uint()) {
        return true;
      }
    } else if (at->ifa_addr->sa_family == AF_INET6 && address.is_v6()) {
      const auto* in = reinterpret_cast<const sockaddr_in6*>(at->ifa_addr);
      const auto bytes = address.to_v6().to_bytes();
      if (std::equal(bytes.begin(), bytes.end(), in->sin6_addr.s6_addr)) {
        return true;
      }
    }
  }
  return false;
}

result<std::vector<std::string>> resolve_now(const std::string& host) {
  if (is_address(host)) {
    return std::vector{host};
  }
  addrinfo hints{};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* first = nullptr;
  if (int code = ::getaddrinfo(host.c_str(), nullptr, &hints, &first);
      code != 0) {
    return error{errc::not_found, host + ": " + ::gai_strerror(code)};
  }
  std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> all{first,
                                                           ::freeaddrinfo};
  std::vector<std::string> found;
  for (const addrinfo* at = first; at != nullptr; at = at->ai_next) {
    char text[INET_ADDRSTRLEN] = {};
    const auto* in = reinterpret_cast<const sockaddr_in*>(at->ai_addr);
    if (::inet_ntop(AF_INET, &in->sin_addr, text, sizeof text) != nullptr) {
      add_once(found, text);
    }
  }
  return found;
}

void resolve(io& i, const std::string& host, resolved done) {
  if (is_address(host)) {
    return done(std::vector{host});
  }
  auto resolver = std::make_shared<tcp::resolver>(i.context());
  resolver->async_resolve(
      tcp::v4(), host, "",
      [resolver, host, done = std::move(done)](auto error, auto entries) {
        if (error) {
          return done(
              esp::error{errc::not_found, host + ": " + error.message()});
        }
        std::vector<std::string> found;
        for (const auto& entry : entries) {
          add_once(found, entry.endpoint().address().to_string());
        }
        done(std::move(found));
      });
}

} // namespace esp::net
