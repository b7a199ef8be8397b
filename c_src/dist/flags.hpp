// The capability flags of the distribution handshake, each with the OTP
// release that brought it. Both sides send their word; what holds for the
// connection is the bitwise and of the two (protocol.md, section 2).

#pragma once

#include <cstdint>
#include <string>

namespace esp::dist {

// The protocol's own names in lower case, without DFLAG_.
namespace dflag {

inline constexpr std::uint64_t bit(unsigned n) noexcept {
  return std::uint64_t{1} << n;
}

inline constexpr auto published = bit(0);            // a visible node
inline constexpr auto atom_cache = bit(1);           // obsolete
inline constexpr auto extended_references = bit(2);  // R7, mandatory
inline constexpr auto dist_monitor = bit(3);         // R7
inline constexpr auto fun_tags = bit(4);             // R7, mandatory in 25
inline constexpr auto dist_monitor_name = bit(5);    // R8
inline constexpr auto hidden_atom_cache = bit(6);    // obsolete
inline constexpr auto new_fun_tags = bit(7);         // R8, mandatory in 25
inline constexpr auto extended_pids_ports = bit(8);  // R9, mandatory
inline constexpr auto export_ptr_tag = bit(9);       // R11, mandatory in 25
inline constexpr auto bit_binaries = bit(10);        // R11, mandatory in 25
inline constexpr auto new_floats = bit(11);          // R11, mandatory in 25
inline constexpr auto unicode_io = bit(12);          // R13
inline constexpr auto dist_hdr_atom_cache = bit(13); // R13
inline constexpr auto small_atom_tags = bit(14);     // R14
inline constexpr auto utf8_atoms = bit(16);          // R16, mandatory
inline constexpr auto map_tag = bit(17);             // 17, mandatory in 25
inline constexpr auto big_creation = bit(18);        // 19, mandatory in 23
inline constexpr auto send_sender = bit(19);         // 21
inline constexpr auto big_seqtrace_labels = bit(20); // 21
inline constexpr auto exit_payload = bit(22);        // 22
inline constexpr auto fragments = bit(23);           // 22
inline constexpr auto handshake_23 = bit(24);        // 23, mandatory in 25
inline constexpr auto unlink_id = bit(25);           // 23.3, mandatory in 26
inline constexpr auto mandatory_25_digest = bit(26); // 25: all of M25
inline constexpr auto spawn = bit(32);               // 23
inline constexpr auto name_me = bit(33);             // 23: a request
inline constexpr auto v4_nc = bit(34);               // 24, mandatory in 26
inline constexpr auto alias = bit(35);               // 24
inline constexpr auto altact_sig = bit(37);          // 28
inline constexpr auto native_records = bit(38);      // 29

} // namespace dflag

// What OTP 25 and later demand of a peer.
inline constexpr std::uint64_t mandatory_25 =
    dflag::extended_references | dflag::fun_tags | dflag::new_fun_tags
    | dflag::extended_pids_ports | dflag::export_ptr_tag | dflag::bit_binaries
    | dflag::new_floats | dflag::utf8_atoms | dflag::map_tag
    | dflag::big_creation | dflag::handshake_23;

// What OTP 26 added to that.
inline constexpr std::uint64_t mandatory_26 = dflag::unlink_id | dflag::v4_nc;

// What we demand. A 23 and a 24 offer all of it but neither of mandatory_26,
// so they are accepted, and control.cpp writes what they understand: op 4,
// narrow ports, no aliases. A 22 lacks handshake_23 and is not.
inline constexpr std::uint64_t mandatory = mandatory_25;

// What we offer: all that OTP 25 does but the atom cache, and of later
// releases op 37 (control.cpp reads and writes it) and native records (the
// walk of the term room accepts tag 67). Hidden; a visible node adds
// dflag::published.
inline constexpr std::uint64_t our_flags =
    mandatory_25 | mandatory_26 | dflag::mandatory_25_digest
    | dflag::dist_monitor | dflag::dist_monitor_name | dflag::unicode_io
    | dflag::small_atom_tags | dflag::send_sender | dflag::big_seqtrace_labels
    | dflag::exit_payload | dflag::fragments | dflag::spawn | dflag::alias
    | dflag::altact_sig | dflag::native_records;

static_assert(mandatory_25 == 0x1070F94);
static_assert(mandatory_26 == 0x402000000);
static_assert(our_flags == 0x6D07DF5FBC);

// The digest stands for all of mandatory_25, also where those bits are off.
inline constexpr std::uint64_t expand(std::uint64_t flags) noexcept {
  return (flags & dflag::mandatory_25_digest) != 0 ? flags | mandatory_25
                                                   : flags;
}

// What holds for a connection between two nodes that sent these words.
inline constexpr std::uint64_t negotiate(std::uint64_t ours,
                                         std::uint64_t theirs) noexcept {
  return expand(ours) & expand(theirs);
}

// Frames begin with 131,68 (or 69, 70) rather than with 112.
inline constexpr bool has_dist_header(std::uint64_t flags) noexcept {
  return (flags & (dflag::fragments | dflag::dist_hdr_atom_cache)) != 0;
}

// The names of the bits set, for log lines: "FUN_TAGS, MAP_TAG, bit 60".
std::string flag_names(std::uint64_t flags);

} // namespace esp::dist
