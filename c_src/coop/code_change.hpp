// A change of code of the nodes that a co-op has in this home: those of some
// plugins go over to the current images of these, all of them or none. The kill
// switch's, on its fiber; a process of a VM says what is next (coop_upgrade.erl),
// since there may be another home, and is watched meanwhile:
//
//   {changes, [Plugin]}                      {native, N}: so many would change
//   {prepare_change, [Plugin], OldVsn, Extra}  {ok, N}: so many could, and wait
//   commit_change                            {ok, Generation}: they have
//   abort_change                             ok: they have not
//   generation                               {ok, Generation}: of the last one
//   {let_go, Generation}                     ok: nothing of the images that were
//                                            left then is under way any more
//
// or {error, Reason}: what was prepared is undone then.

#pragma once

#include "coop/spec.hpp"
#include "plugin/task_table.hpp"

#include <boost/intrusive_ptr.hpp>

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

namespace esp::coop {

class coop_node;
class kill_switch;

class code_change {
public:
  explicit code_change(kill_switch& of);
  ~code_change();
  code_change(const code_change&) = delete;
  code_change& operator=(const code_change&) = delete;

  static bool is_about(const term& request) noexcept;
  void request(const term& from, const term& what);
  // A node has done as it was told under that number, or says why it cannot.
  void answered(std::uint64_t node, std::uint32_t order,
                const std::optional<term>& refusal);
  // One that was made late has ended in order.
  void gone(std::uint64_t node);
  // A monitor has fired: true if it was that of who had asked for this.
  bool lost(const ref& r);
  // The body is no more. If another takes its place, that is what this one was
  // to become as soon as it was told to.
  void drop(const term& reason, bool lives_on);
  bool is_under_way() const noexcept { return by_.has_value(); }

private:
  struct asked {
    boost::intrusive_ptr<coop_node> node;
    plugin::task_ref to;
    bool is_told = false, is_awaited = false;
  };

  // A plugin and its current image, which may be null.
  using images = std::unordered_map<atom, plugin::image_ptr>;

  images current(const term& plugins) const;
  // Nodes that do not run these.
  template <class F>
  void for_each(const images& current, F&& f) const;
  void prepare(const term& from);
  std::optional<term> find_new();
  std::optional<term> find_misfit() const;
  void tell_prepare();
  void commit(const term& from);
  void abort();
  void check_answered();
  void done() const;
  void end();
  void reply(const term& from, const term& answer) const;
  void refuse(const term& reason);

  kill_switch& of_;
  std::optional<pid> by_; // who has asked
  ref watch_;
  std::optional<term> from_; // of the request under way
  bool is_committing_ = false;
  images to_; // whatever is loaded meanwhile
  bool is_down_ = false; // to an older version
  term extra_;
  std::unordered_map<std::uint64_t, asked> asked_; // by the node's number
  std::size_t awaited_ = 0;
  std::uint32_t order_ = 0;
};

} // namespace esp::coop
