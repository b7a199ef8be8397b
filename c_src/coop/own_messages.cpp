#include "coop/own_messages.hpp"

namespace esp::coop::own {

namespace {

const atom tag("$coop");

term number(std::uint64_t n) {
  return term::integer(static_cast<std::int64_t>(n));
}

term write_envelope(const node::envelope_ptr& env) {
  static const atom call("call");
  if (!env || !env->call)
    return {};
  return term::map({{call, *env->call}});
}

} // namespace

term data(std::uint32_t edge, std::uint64_t units,
          const node::envelope_ptr& env, const term& datum, bool is_urgent) {
  static const atom data_("data"), priority("priority");
  return term::tuple({tag, is_urgent ? priority : data_, number(edge),
                      number(units), write_envelope(env), datum});
}

term barrier(std::uint32_t edge, const term& caller) {
  static const atom barrier_("barrier");
  return term::tuple({tag, barrier_, number(edge), caller});
}

term credit(std::uint32_t edge, std::uint64_t units) {
  static const atom credit_("credit");
  return term::tuple({tag, credit_, number(edge), number(units)});
}

term attach(const pid& who, std::uint32_t edge) {
  static const atom attach_("attach"), edge_("edge");
  return term::tuple({tag, attach_, who, number(edge), edge_});
}

term attached(std::uint32_t edge, std::uint32_t head_edge, std::uint64_t units,
              atom rule) {
  static const atom attached_("attached");
  return term::tuple(
      {tag, attached_, number(edge), number(head_edge), number(units), rule});
}

term overload(std::uint32_t edge, bool is_over) {
  static const atom overload_("overload"), true_("true"), false_("false");
  return term::tuple({tag, overload_, number(edge), is_over ? true_ : false_});
}

term meter(const pid& who, std::uint32_t edge, const term& receiver,
           std::uint64_t units, std::uint64_t queue) {
  static const atom meter_("meter");
  return term::tuple(
      {tag, meter_, who, number(edge), receiver, number(units), number(queue)});
}

term want(const pid& who, std::uint32_t edge, std::uint64_t n) {
  static const atom want_("want");
  return term::tuple({tag, want_, who, number(edge), number(n)});
}

term failed(const term& reason) {
  static const atom error("error");
  return term::tuple({tag, error, reason});
}

term flushed(const term& reference, std::size_t total) {
  static const atom flushed_("flushed");
  return term::tuple({tag, flushed_, reference, number(total)});
}

term replied(const term& from) {
  static const atom replied_("replied");
  return term::tuple({tag, replied_, from});
}

term fell(const pid& kill_switch, const term& reason) {
  static const atom fell_("fell");
  return term::tuple({tag, fell_, kill_switch, reason});
}

term join(const pid& who, std::uint32_t edge, std::uint32_t behind,
          std::uint64_t window) {
  static const atom join_("join");
  return term::tuple(
      {tag, join_, who, number(edge), number(behind), number(window)});
}

term last(std::uint32_t edge) {
  static const atom last_("last");
  return term::tuple({tag, last_, number(edge)});
}

term passed(std::uint32_t edge) {
  static const atom passed_("passed");
  return term::tuple({tag, passed_, number(edge)});
}

term done(std::uint32_t edge) {
  static const atom done_("done");
  return term::tuple({tag, done_, number(edge)});
}

term more(const pid& router, std::uint32_t edge) {
  static const atom more_("more");
  return term::tuple({tag, more_, router, number(edge)});
}

term mark(const term& to, const term& mark) {
  static const atom mark_("mark");
  return term::tuple({tag, mark_, to, mark});
}

term fresh(std::uint32_t edge, const std::vector<term>& workers) {
  static const atom fresh_("fresh");
  return term::tuple({tag, fresh_, number(edge), term::list(workers)});
}

term inside(const pid& kill_switch, std::uint64_t n) {
  static const atom inside_("inside");
  return term::tuple({tag, inside_, kill_switch, number(n)});
}

term restarted(const term& reference, const term& reason) {
  static const atom restarted_("restarted");
  return term::tuple({tag, restarted_, reference, reason});
}

node::envelope_ptr read_envelope(const term& t) {
  return node::envelope_of(
      t.kind() == kind::map ? t.get("call") : std::nullopt, std::nullopt);
}

} // namespace esp::coop::own
