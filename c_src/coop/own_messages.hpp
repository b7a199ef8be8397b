// The project's own messages, as doc/messages.md has them: built in one place.

#pragma once

#include "esp/term.hpp"

#include "node/message.hpp"

#include <cstdint>
#include <vector>

namespace esp::coop::own {

term data(std::uint32_t edge, std::uint64_t units,
          const node::envelope_ptr& env, const term& datum,
          bool is_urgent = false);
term barrier(std::uint32_t edge, const term& caller);
term credit(std::uint32_t edge, std::uint64_t units);
term attach(const pid& who, std::uint32_t edge);
term attached(std::uint32_t edge, std::uint32_t head_edge, std::uint64_t units,
              atom rule);
term overload(std::uint32_t edge, bool is_over);
term meter(const pid& who, std::uint32_t edge, const term& receiver,
           std::uint64_t units, std::uint64_t queue);
term want(const pid& who, std::uint32_t edge, std::uint64_t n);
// Instead of the result of a coop:call/3.
term failed(const term& reason);
term flushed(const term& reference, std::size_t total);
term replied(const term& from);
term fell(const pid& kill_switch, const term& reason);
// Of nodes made late: late.hpp.
term join(const pid& who, std::uint32_t edge, std::uint32_t behind,
          std::uint64_t window);
term last(std::uint32_t edge);
term passed(std::uint32_t edge);
term done(std::uint32_t edge);
term more(const pid& router, std::uint32_t edge);
term mark(const term& to, const term& mark);
term fresh(std::uint32_t edge, const std::vector<term>& workers);
// So many data, at least, end with a home of a co-op.
term inside(const pid& kill_switch, std::uint64_t n);
// To who waits for a flush.
term restarted(const term& reference, const term& reason);

// [] or a map with call; null for the former. Tokens travel otherwise.
node::envelope_ptr read_envelope(const term& t);

} // namespace esp::coop::own
