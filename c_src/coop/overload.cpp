#include "coop/overload.hpp"

#include <chrono>

namespace esp::coop {

namespace {

using kind = overload_policy::kind;

bool is_counted(const node::message& m) noexcept {
  return m.kind == node::what::data && m.edge != node::no_edge && !m.urgent;
}

// A value of a neighbour's that was never a term counts as a small one.
std::size_t size_of(const node::message& m) noexcept {
  return m.value.holds<term>() ? m.value.as<term>().bytes().size() : 64;
}

// Wraps around after 49 days, which differences do not mind.
std::uint32_t now_ms() noexcept {
  using namespace std::chrono;
  return static_cast<std::uint32_t>(
      duration_cast<milliseconds>(steady_clock::now().time_since_epoch())
          .count());
}

} // namespace

void overload::came(node::message& m) noexcept {
  if (policy_.how == kind::sojourn)
    m.arrived = now_ms();
  else if (is_counted(m))
    ++data_, bytes_ += size_of(m);
}

void overload::leaves(const node::message& m) noexcept {
  if (policy_.how != kind::sojourn && is_counted(m))
    --data_, bytes_ -= size_of(m);
}

bool overload::is_late(const node::message& m) const noexcept {
  return policy_.how == kind::sojourn && m.kind == node::what::data && !m.urgent
         && now_ms() - m.arrived > policy_.ms;
}

std::optional<bool> overload::news(std::size_t queued) noexcept {
  if (policy_.how != kind::shed)
    return std::nullopt;
  const bool is_over = is_over_
                           ? queued > max_data_ / 2 || bytes_ > max_bytes_ / 2
                           : is_too_much(queued);
  if (is_over == is_over_)
    return std::nullopt;
  is_over_ = is_over;
  return is_over;
}

atom overload::rule() const {
  static const atom block("block"), shed("shed");
  return policy_.how == kind::shed ? shed : block;
}

term overload::describe() const {
  switch (policy_.how) {
  case kind::block:
  case kind::shed:
    return rule();
  case kind::drop_oldest:
    return atom("drop_oldest");
  case kind::sojourn:
    break;
  }
  return term::tuple({atom("sojourn"), term::integer(policy_.ms)});
}

} // namespace esp::coop
