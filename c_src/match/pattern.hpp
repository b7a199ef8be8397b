// The head of a match specification's clause, against what was called or sent.

#pragma once

#include "esp/term.hpp"

#include "match/budget.hpp"
#include "match/parts.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

namespace esp::match {

class pattern {
public:
  // `$N`, in order, to what it stands for: parts of the term that matched.
  using bindings = std::map<std::int64_t, place>;

  // The text of what is wrong with it, or none.
  std::optional<std::string> take(const term& head);

  bool binds(std::int64_t variable) const noexcept {
    return variables_.contains(variable);
  }
  // `t` must outlive what is bound. False, too, if `left` is not enough.
  bool matches(const term& t, bindings& bound, budget& left) const;

private:
  std::shared_ptr<const term> head_; // stays where it is: places are in it
  bindings variables_; // to nothing
  std::unordered_set<place> constants_; // parts without variables: taken as =:=
};

} // namespace esp::match
