#include "epmd/codec.hpp"

#include <charconv>
#include <initializer_list>
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

// Big-endian fields off the front of a reply; none once it is used up.
class fields {
public:
  explicit fields(std::span<const std::byte> bytes) : left_(bytes) {}

  std::optional<std::uint32_t> number(std::size_t width) {
    auto bytes = take(width);
    if (!bytes) {
      return std::nullopt;
    }
    std::uint32_t n = 0;
    for (std::byte b : *bytes) {
      n = n << 8 | std::to_integer<std::uint32_t>(b);
    }
    return n;
  }
  std::optional<std::span<const std::byte>> take(std::size_t count) {
    if (count > left_.size()) {
      return std::nullopt;
    }
    auto taken = left_.first(count);
    left_ = left_.subspan(count);
    return taken;
  }
  std::optional<std::string> counted_text() {
    auto length = number(2);
    auto bytes = length ? take(*length) : std::nullopt;
    if (!bytes) {
      return std::nullopt;
    }
    return std::string{reinterpret_cast<const char*>(bytes->data()),
                       bytes->size()};
  }
  std::span<const std::byte> rest() const { return left_; }

private:
  std::span<const std::byte> left_;
};

void put8(std::vector<std::byte>& out, std::uint8_t n) {
  out.push_back(static_cast<std::byte>(n));
}

void put16(std::vector<std::byte>& out, std::size_t n) {
  put8(out, static_cast<std::uint8_t>(n >> 8));
  put8(out, static_cast<std::uint8_t>(n));
}

void put_text(std::vector<std::byte>& out, std::string_view text) {
  auto bytes = std::as_bytes(std::span{text.data(), text.size()});
  out.insert(out.end(), bytes.begin(), bytes.end());
}

// Len:16 in front of the body.
std::vector<std::byte> request(std::size_t body_size) {
  std::vector<std::byte> out;
  out.reserve(2 + body_size);
  put16(out, body_size);
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
  put8(out, alive2_req);
  put16(out, port);
  put8(out, is_hidden ? type_hidden : type_normal);
  put8(out, protocol_tcp);
  put16(out, version); // highest
  put16(out, version); // lowest
  put16(out, name.size());
  put_text(out, name);
  put16(out, 0); // extra
  return out;
}

result<std::uint32_t> decode_alive_reply(std::span<const std::byte> reply) {
  fields in{reply};
  auto tag = in.number(1);
  if (tag && *tag != alive2_x_resp && *tag != alive2_resp) {
    return unexpected("ALIVE2_RESP", *tag);
  }
  auto code = in.number(1);
  auto creation = in.number(tag == alive2_resp ? 2 : 4);
  if (!creation) {
    return truncated("ALIVE2_RESP");
  }
  if (*code != 0) {
    return error{errc::already,
                 "epmd refused the name, result " + std::to_string(*code)};
  }
  return *creation;
}

result<std::vector<std::byte>> encode_port_please(std::string_view name) {
  if (!is_name(name)) {
    return bad_name(name);
  }
  auto out = request(1 + name.size());
  put8(out, port_please2_req);
  put_text(out, name);
  return out;
}

result<node_entry> decode_port_reply(std::span<const std::byte> reply) {
  fields in{reply};
  auto tag = in.number(1);
  if (tag && *tag != port2_resp) {
    return unexpected("PORT2_RESP", *tag);
  }
  auto code = in.number(1);
  if (code && *code != 0) {
    return error{errc::not_found, "epmd does not know the name"};
  }
  auto port = in.number(2);
  auto type = in.number(1);
  auto protocol = in.number(1);
  auto highest = in.number(2);
  auto lowest = in.number(2);
  auto name = in.counted_text();
  auto extra = in.counted_text();
  if (!port || !type || !protocol || !highest || !lowest || !name || !extra) {
    return truncated("PORT2_RESP");
  }
  if (*protocol != protocol_tcp) {
    return error{errc::malformed, "node speaks protocol "
                                      + std::to_string(*protocol)
                                      + ", not TCP"};
  }
  return node_entry{.port = static_cast<std::uint16_t>(*port),
                    .is_hidden = *type == type_hidden,
                    .lowest_version = static_cast<std::uint16_t>(*lowest),
                    .highest_version = static_cast<std::uint16_t>(*highest),
                    .name = std::move(*name)};
}

std::vector<std::byte> encode_names() {
  auto out = request(1);
  put8(out, names_req);
  return out;
}

result<std::vector<name_entry>>
decode_names_reply(std::span<const std::byte> reply) {
  fields in{reply};
  if (!in.number(4)) { // epmd's own port, which the caller knows
    return truncated("NAMES_RESP");
  }
  auto rest = in.rest();
  std::string_view text{reinterpret_cast<const char*>(rest.data()),
                        rest.size()};
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
