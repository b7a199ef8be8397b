// Replies that no epmd would send: an error or a value, and a value holds only
// what was in the reply. The first byte chooses the question.

#include "epmd/codec.hpp"

#include <cstdlib>

using namespace esp::epmd;

namespace {

void require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  if (size < 1) {
    return 0;
  }
  std::span<const std::byte> reply{reinterpret_cast<const std::byte*>(data + 1),
                                   size - 1};
  switch (data[0] % 4) {
  case 0:
    if (auto r = decode_alive_reply(reply); !r) {
      require(!r.error().what.empty());
    }
    break;
  case 1:
    if (auto r = decode_port_reply(reply); r) {
      require(r->name.size() + 14 <= reply.size());
    } else {
      require(!r.error().what.empty());
    }
    break;
  case 2:
    if (auto r = decode_names_reply(reply); r) {
      std::size_t bytes = 4;
      for (const auto& entry : *r) {
        require(!entry.name.empty());
        bytes += entry.name.size() + sizeof "name  at port 0";
      }
      require(bytes <= reply.size());
    }
    break;
  default: {
    std::string_view name{reinterpret_cast<const char*>(reply.data()),
                          reply.size()};
    auto alive = encode_alive(name, 1, true);
    auto please = encode_port_please(name);
    require(alive.has_value() == please.has_value());
    require(!alive || alive->size() == 2 + 13 + name.size());
  }
  }
  return 0;
}
