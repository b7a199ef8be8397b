#include "epmd/codec.hpp"

#include "base/bytes.hpp"

#include <charconv>
#include <optional>

namespace esp::epmd {

namespace {

constexpr std::uint8_t alive2_req = 120;
constexpr std::uint8_t alive2_x_resp = 118;
constexpr std::uint8_t alive2_resp = 121;
constexpr std::uint8_t port_please2_req = 122;
constexpr std::uint8_t port2_resp = 119;
constexpr std::uint8_t names_req = 110;

constexpr std::uint8_t type_hidden = 72;
constexpr std::uint8_t type_normal = 77;
constexpr std::uint8_t protocol_tcp = 0;
constexpr std::uint16_t version = 6; // of the distribution handshake

constexpr std::size_t max_name = 255;

// Len:16 in front of the body.
std::vector<std::byte> request(std::size_t body_size) {
  std::vector<std::byte> out;
  out.reserve(2 + body_size);
  base::writer{out}.u16(static_cast<std::uint16_t>(body_size));
  return out;
}

esp::error bad_name(std::string_view name) {
  return {errc::badarg,
          "a name of " + std::to_string(name.size())
              + " bytes; epmd takes 1 to 255, without the host part"};
}

bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= max_name
         && name.find('@') == std::string_view::npos;
}

esp::error truncated(std::string_view what) {
  return {errc::truncated, std::string{what} + " cut short"};
}

esp::error unexpected(std::string_view wanted, std::uint32_t came) {
  return {errc::malformed, "expected " + std::string{wanted} + ", got tag "
                               + std::to_string(came)};
}

// "name N at port P". A name may hold blanks, so the port is cut off first.
std::optional<name_entry> parse_name_line(std::string_view line) {
  constexpr std::string_view front = "name ", middle = " at port ";
  auto at = line.rfind(middle);
  if (!line.starts_with(front) || at == line.npos || at <= front.size()) {
    return std::nullopt;
  }
  auto digits = line.substr(at + middle.size());
  name_entry entry;
  entry.name = line.substr(front.size(), at - front.size());
  auto [end, failed] =
      std::from_chars(digits.data(), digits.data() + digits.size(), entry.port);
  if (failed != std::errc{} || end != digits.data() + digits.size()) {
    return std::nullopt;
  }
  return entry;
}

} // namespace

result<std::vector<std::byte>>
encode_alive(std::string_view name, std::uint16_t port, bool is_hidden) {
  if (!is_name(name)) {
    return bad_name(name);
  }
  auto out = request(13 + name.size());
  base::writer w{out};
  w.u8(alive2_req);
  w.u16(port);
  w.u8(is_hidden ? type_hidden : type_normal);
  w.u8(protocol_tcp);
  w.u16(version); // highest
  w.u16(version); // lowest
  w.u16(static_cast<std::uint16_t>(name.size()));
  w.text(name);
  w.u16(0); // extra
  return out;
}

result<std::uint32_t> decode_alive_reply(std::span<const std::byte> reply) {
  base::reader in{reply};
  auto tag = in.u8();
  if (in.ok() && tag != alive2_x_resp && tag != alive2_resp) {
    return unexpected("ALIVE2_RESP", tag);
  }
  auto code = in.u8();
  auto creation = tag == alive2_resp ? in.u16() : in.u32();
  if (!in.ok()) {
    return truncated("ALIVE2_RESP");
  }
  if (code != 0) {
    return error{errc::already,
                 "epmd refused the name, result " + std::to_string(code)};
  }
  return creation;
}

result<std::vector<std::byte>> encode_port_please(std::string_view name) {
  if (!is_name(name)) {
    return bad_name(name);
  }
  auto out = request(1 + name.size());
  base::writer w{out};
  w.u8(port_please2_req);
  w.text(name);
  return out;
}

result<node_entry> decode_port_reply(std::span<const std::byte> reply) {
  base::reader in{reply};
  auto tag = in.u8();
  if (in.ok() && tag != port2_resp) {
    return unexpected("PORT2_RESP", tag);
  }
  auto code = in.u8();
  if (in.ok() && code != 0) {
    return error{errc::not_found, "epmd does not know the name"};
  }
  node_entry entry;
  entry.port = in.u16();
  entry.is_hidden = in.u8() == type_hidden;
  auto protocol = in.u8();
  entry.highest_version = in.u16();
  entry.lowest_version = in.u16();
  entry.name = in.text(in.u16());
  in.skip(in.u16()); // extra
  if (!in.ok()) {
    return truncated("PORT2_RESP");
  }
  if (protocol != protocol_tcp) {
    return error{errc::malformed, "node speaks protocol "
                                      + std::to_string(protocol) + ", not TCP"};
  }
  return entry;
}

std::vector<std::byte> encode_names() {
  auto out = request(1);
  base::writer{out}.u8(names_req);
  return out;
}

result<std::vector<name_entry>>
decode_names_reply(std::span<const std::byte> reply) {
  base::reader in{reply};
  in.skip(4); // epmd's own port, which the caller knows
  if (!in.ok()) {
    return truncated("NAMES_RESP");
  }
  auto text = base::as_text(in.rest());
  std::vector<name_entry> names;
  while (!text.empty()) {
    auto end = text.find('\n');
    if (end == text.npos) {
      return truncated("line of NAMES_RESP");
    }
    auto entry = parse_name_line(text.substr(0, end));
    if (!entry) {
      return error{errc::malformed, "expected \"name N at port P\" in "
                                    "NAMES_RESP"};
    }
    names.push_back(std::move(*entry));
    text.remove_prefix(end + 1);
  }
  return names;
}

} // namespace esp::epmd
