// Talking to epmd: a registration that is held, and look-ups. All of it lives
// on the I/O thread, callbacks included; codec.hpp has the bytes.

#pragma once

#include "esp/error.hpp"

#include "epmd/codec.hpp"
#include "net/address.hpp"
#include "net/io.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace esp::epmd {

// Where our own epmd is: what is given, else ERL_EPMD_ADDRESS (the first of a
// list) and ERL_EPMD_PORT, else 127.0.0.1 and 4369.
net::endpoint default_endpoint(const std::string& address = {},
                               std::uint16_t port = 0);

struct registration_request {
  net::endpoint epmd;
  std::string name; // the part before the '@'
  std::uint16_t port = 0;
  bool is_hidden = true;
};

// The name is registered as long as its connection to epmd is open. When epmd
// dies it is registered again, for as long as it takes. OTP nodes then keep
// the creation they had, since pids of theirs are about, and so do we: later
// creations are ignored.
class registration {
public:
  // `first` hears how the first attempt ended: the creation, `already` for a
  // name that is still taken after half a second, `io` if there is no epmd, or
  // `timeout`. After an error nothing more is tried.
  static std::unique_ptr<registration>
  start(net::io& i, registration_request request,
        std::function<void(result<std::uint32_t>)> first);
  // Gives the name up.
  ~registration();
  registration(const registration&) = delete;
  registration& operator=(const registration&) = delete;

private:
  class session;
  explicit registration(std::shared_ptr<session> s);
  std::shared_ptr<session> session_;
};

// One look-up. Destroying it before `done` was called cancels it.
class lookup {
public:
  // `not_found` if epmd does not know the name, `io` if there is no epmd. No
  // time limit of its own. `done` may destroy the lookup.
  static std::unique_ptr<lookup>
  start(net::io& i, std::vector<net::endpoint> epmds, const std::string& name,
        std::function<void(result<node_entry>)> done);
  ~lookup();
  lookup(const lookup&) = delete;
  lookup& operator=(const lookup&) = delete;

private:
  class session;
  explicit lookup(std::shared_ptr<session> s);
  std::shared_ptr<session> session_;
};

} // namespace esp::epmd
