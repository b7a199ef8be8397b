// What a head is to those who see kinds and identifiers.

#include "term/read.hpp"

namespace esp::etf {

kind kind_of(form what) noexcept {
  switch (what) {
  case form::integer:
  case form::big:
    return kind::integer;
  case form::floating:
    return kind::floating;
  case form::atom:
    return kind::atom;
  case form::binary:
    return kind::binary;
  case form::bits:
    return kind::bitstring;
  case form::nil:
    return kind::nil;
  case form::string:
  case form::list:
    return kind::list;
  case form::tuple:
    return kind::tuple;
  case form::map:
    return kind::map;
  case form::pid:
    return kind::pid;
  case form::port:
    return kind::port;
  case form::ref:
    return kind::ref;
  case form::external_fun:
  case form::closure:
    return kind::fun;
  case form::record:
    return kind::record;
  }
  return kind::nil;
}

std::optional<pid> pid_of(const head& h) {
  const auto node = h.what == form::pid ? interned(h.name) : std::nullopt;
  if (!node) {
    return std::nullopt;
  }
  return pid{*node, static_cast<std::uint32_t>(h.id), h.serial, h.creation};
}

std::optional<ref> ref_of(const head& h) {
  const auto node = h.what == form::ref ? interned(h.name) : std::nullopt;
  if (!node) {
    return std::nullopt;
  }
  ref r{*node, h.creation, static_cast<std::uint8_t>(h.count), {}};
  for (std::size_t i = 0; i < h.count && i < r.words.size(); ++i) {
    r.words[i] = base::load_be<std::uint32_t>(h.body + 4 * i);
  }
  return r;
}

std::optional<port> port_of(const head& h) {
  const auto node = h.what == form::port ? interned(h.name) : std::nullopt;
  if (!node) {
    return std::nullopt;
  }
  return port{*node, h.id, h.creation};
}

} // namespace esp::etf
