#include "dist/flags.hpp"

#include <array>
#include <string_view>
#include <utility>

namespace esp::dist {

namespace {

using named_flag = std::pair<std::uint64_t, std::string_view>;

constexpr std::array names{
    named_flag{dflag::published, "PUBLISHED"},
    named_flag{dflag::atom_cache, "ATOM_CACHE"},
    named_flag{dflag::extended_references, "EXTENDED_REFERENCES"},
    named_flag{dflag::dist_monitor, "DIST_MONITOR"},
    named_flag{dflag::fun_tags, "FUN_TAGS"},
    named_flag{dflag::dist_monitor_name, "DIST_MONITOR_NAME"},
    named_flag{dflag::hidden_atom_cache, "HIDDEN_ATOM_CACHE"},
    named_flag{dflag::new_fun_tags, "NEW_FUN_TAGS"},
    named_flag{dflag::extended_pids_ports, "EXTENDED_PIDS_PORTS"},
    named_flag{dflag::export_ptr_tag, "EXPORT_PTR_TAG"},
    named_flag{dflag::bit_binaries, "BIT_BINARIES"},
    named_flag{dflag::new_floats, "NEW_FLOATS"},
    named_flag{dflag::unicode_io, "UNICODE_IO"},
    named_flag{dflag::dist_hdr_atom_cache, "DIST_HDR_ATOM_CACHE"},
    named_flag{dflag::small_atom_tags, "SMALL_ATOM_TAGS"},
    named_flag{dflag::utf8_atoms, "UTF8_ATOMS"},
    named_flag{dflag::map_tag, "MAP_TAG"},
    named_flag{dflag::big_creation, "BIG_CREATION"},
    named_flag{dflag::send_sender, "SEND_SENDER"},
    named_flag{dflag::big_seqtrace_labels, "BIG_SEQTRACE_LABELS"},
    named_flag{dflag::exit_payload, "EXIT_PAYLOAD"},
    named_flag{dflag::fragments, "FRAGMENTS"},
    named_flag{dflag::handshake_23, "HANDSHAKE_23"},
    named_flag{dflag::unlink_id, "UNLINK_ID"},
    named_flag{dflag::mandatory_25_digest, "MANDATORY_25_DIGEST"},
    named_flag{dflag::spawn, "SPAWN"},
    named_flag{dflag::name_me, "NAME_ME"},
    named_flag{dflag::v4_nc, "V4_NC"},
    named_flag{dflag::alias, "ALIAS"},
    named_flag{dflag::altact_sig, "ALTACT_SIG"},
    named_flag{dflag::native_records, "NATIVE_RECORDS"},
};

std::string name_of(unsigned n) {
  for (auto [flag, name] : names) {
    if (flag == dflag::bit(n)) {
      return std::string{name};
    }
  }
  return "bit " + std::to_string(n);
}

} // namespace

std::string flag_names(std::uint64_t flags) {
  std::string text;
  for (unsigned n = 0; n < 64; ++n) {
    if ((flags & dflag::bit(n)) != 0) {
      text += (text.empty() ? "" : ", ") + name_of(n);
    }
  }
  return text;
}

} // namespace esp::dist
