// Match specifications for tracing: compiled once, run for each event. "Match
// Specifications in Erlang" of the ERTS user's guide says what they mean;
// erlang:match_spec_test/3 is the judge.

#pragma once

#include "esp/term.hpp"

#include "match/functions.hpp"
#include "match/pattern.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace esp::match {

// What it is for: only calls have a caller.
enum class use : std::uint8_t { calls, messages };

// What the clause that matched wants.
struct verdict {
  bool matched = false;
  std::optional<term> message; // of {message, M}: true is none, false no event
  bool return_trace = false, exception_trace = false;
  std::optional<bool> silent;

  bool is_told() const noexcept {
    return matched && !(message && message->is_atom("false"));
  }
  // What the event has as an element more, if anything.
  std::optional<term> extra() const {
    return message && !message->is_atom("true") ? message : std::nullopt;
  }
};

class spec {
public:
  // Larger ones are refused: each event goes through all of it.
  static constexpr std::size_t most_bytes = std::size_t{1} << 18;

  // The text of what is wrong: what match_spec_test/3 refuses, and what is
  // about an emulator or about sequential tracing, which cannot be had here.
  static std::variant<std::shared_ptr<const spec>, std::string>
  compile(const term& t, use u);

  // `args` is a list. `tcw` is the trace control word; null: there is none to
  // set. A clause that is too much work (budget.hpp) does not match. Throws
  // nothing.
  verdict run(const caller& c, const term& args,
              std::atomic<std::uint32_t>* tcw) const;

  const term& source() const noexcept { return source_; }

private:
  friend class compiler;

  struct op {
    enum class code : std::uint8_t {
      push,          // `value`
      variable,      // $N
      whole,         // $_
      variables,     // $$
      call,          // `fn` of n
      tuple,         // of n
      list,          // of n, then a tail
      map,           // of n pairs
      all_true,      // and, of n
      any_true,      // or, of n
      if_true,       // andalso: goes on, or to label n
      if_false,      // orelse
      message,
      return_trace,
      exception_trace,
      silent,
      get_tcw,
      set_tcw,
      drop,  // a body's value that is not its last
      guard, // is it true
    };
    op(code c, std::size_t count = 0, term v = {}, function f = nullptr)
        : what(c), n(count), value(std::move(v)), fn(f) {}

    code what;
    std::size_t n;
    term value;
    function fn;
  };
  struct clause {
    pattern head;
    std::vector<op> guards, body;
    std::vector<std::size_t> labels; // places in guards, then in body
  };
  class machine;

  term source_;
  std::vector<clause> clauses_;
};

using spec_ptr = std::shared_ptr<const spec>; // null: all is told, as it is

} // namespace esp::match
