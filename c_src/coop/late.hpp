// Nodes made while their co-op runs: the workers of a `consume`, of which each
// is used for one datum, and those that a task starts. A late node is a member
// of its home's kill switch as any other, but may end with `normal`.
//
// Who made it feeds it by an edge as any other. Its results go where its
// maker's go (those of a worker, where its template's edges lead), on edges of
// its own, of which it tells their receivers (`join`). A barrier does not
// travel those: the maker waits until its late nodes are through with it, or a
// worker with its datum, and then passes it on for all of them. So of such an
// edge a receiver need know only whose barriers it is behind: while one of
// these is held, so is what comes on it.
//
// This is what a member has of all that; most have nothing.

#pragma once

#include "coop/edge.hpp"

#include <deque>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

namespace esp::coop {

// What has its edges' numbers out of one range: those of workers are used up, in
// time, and begin anew; those of nodes that stay must not meet them.
enum class late_kind : std::uint8_t { worker, started };

// Of a late node: who made it, and by which edge it is fed.
struct late_origin {
  esp::pid maker;
  std::uint32_t edge = 0;
  bool is_used = false; // a worker's end is in order once it has had its datum
};

// The workers of a router by `consume`.
struct worker_pool {
  struct passage {
    std::uint32_t edge;
    esp::pid to;
  };
  std::size_t threshold = 0; // so many unused are few
  std::uint64_t most = 0;    // at work at once
  esp::pid supplier;         // makes more: the kill switch of their home
  std::deque<esp::pid> fresh;
  std::vector<passage> beyond; // where their edges lead; none: the last tier
  bool is_ordered = false;
  std::uint64_t supplied = 0, done = 0;
};

// A node that this one's task has started.
struct made_node {
  out_edge edge;
  bool is_awaited = false;  // to pass a barrier, or to end
  bool is_stopping = false; // has had its last datum
  bool is_gone = false;
};

struct late_part {
  std::optional<late_origin> origin;
  std::optional<worker_pool> pool;
  // By the edge's number. Who waits for credit on it holds it, too.
  std::unordered_map<std::uint32_t, std::shared_ptr<made_node>> made;
  std::unordered_map<esp::pid, std::uint32_t> made_by_pid;
  std::size_t awaited = 0; // of them
  std::unordered_map<std::uint32_t, in_edge> joined;
  std::vector<term> joining;   // before this one is wired
  std::optional<term> barrier; // {Caller, Ref}: to be passed on after them
  bool is_ending = false;      // after them

  // Of what waits for late nodes: nothing is waited for any more.
  bool is_through(const std::vector<out_edge>& out) const noexcept {
    return awaited == 0 && (!pool || out.front().sent == pool->done);
  }
};

} // namespace esp::coop
