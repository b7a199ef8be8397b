// EPMD requests and replies as plain bytes. Nothing here opens a socket:
// client.hpp does, and the tests and the fuzzer need no epmd to run. A reply
// cut short is `truncated`, and the caller may come back with more bytes; all
// numbers are big-endian (protocol.md, section 1).

#pragma once

#include "esp/error.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace esp::epmd {

inline constexpr std::uint16_t default_port = 4369;

// No reply of one node is longer: fixed fields, name and extra.
inline constexpr std::size_t max_port_reply = 12 + 2 * (2 + 65'535);

struct node_entry {
  std::uint16_t port = 0;
  bool is_hidden = false;
  std::uint16_t lowest_version = 0;
  std::uint16_t highest_version = 0;
  std::string name;
};

struct name_entry {
  std::string name;
  std::uint16_t port = 0;
};

// ALIVE2_REQ, protocol versions 6 to 6. `name` is the part of the node name
// before the '@', of 1 to 255 bytes, else `badarg`.
result<std::vector<std::byte>> encode_alive(std::string_view name,
                                            std::uint16_t port, bool is_hidden);

// ALIVE2_X_RESP or the old ALIVE2_RESP: the creation of this registration. A
// name that is taken is `already`. The reply ends after its fixed size.
result<std::uint32_t> decode_alive_reply(std::span<const std::byte> reply);

// PORT_PLEASE2_REQ; `name` as above.
result<std::vector<std::byte>> encode_port_please(std::string_view name);

// PORT2_RESP. A name that epmd does not know is `not_found`.
result<node_entry> decode_port_reply(std::span<const std::byte> reply);

// NAMES_REQ.
std::vector<std::byte> encode_names();

// Its reply, which is whole only when epmd has closed the connection: lines
// "name N at port P". A line that says anything else is `malformed`.
result<std::vector<name_entry>>
decode_names_reply(std::span<const std::byte> reply);

} // namespace esp::epmd
