// A spec made live: kill switch, nodes, head, and the edges between them.

#pragma once

#include "coop/coop_node.hpp"
#include "coop/head.hpp"
#include "coop/kill_switch.hpp"
#include "coop/spec.hpp"

#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

namespace esp::coop {

class builder {
public:
  builder(node::node& home, spec s);

  // Makes the processes of this home and has every node initialise itself.
  // `maker` hears, as data, of what comes of it, and hands it to hear(), until
  // is_done(); it does not wait on a fiber, which a task that runs for ever
  // could keep from going on. `parent` is shown among the ancestors.
  void begin(node::process& maker, const pid& parent);
  void hear(node::process& maker, const term& what);
  // Ends what there is; the first reason stays.
  void fail(const term& reason);
  // All nodes are initialised, or nothing is left of them.
  bool is_done() const noexcept {
    return failure_ ? watched_.empty() : left_ == 0;
  }
  const std::optional<term>& failure() const noexcept { return failure_; }
  // Whether the kill switch has to make workers while the co-op runs.
  bool has_workers() const;
  // By it: those of that router, if that is its edge; their pids.
  std::vector<term> more_workers(std::shared_ptr<builder> self,
                                 const pid& router, std::uint32_t edge);

  // Both leave it to the kill switch, and the caller may not touch it again.
  //
  // The co-op is all here: wires it, links the head to `parent`.
  pid start(std::shared_ptr<builder> self, const pid& parent);
  // The part of a mixed co-op: the reply to {prepare, Spec}. Its kill switch
  // is linked to `other_switch`.
  term prepared(std::shared_ptr<builder> self, const pid& other_switch);
  // {wire, #{head, switch, nodes}, Parent}: the reply.
  term wire(const term& pids, const term& parent);

  // ---- Changes of code, by the kill switch ---------------------------------

  std::vector<plugin::image_ptr> images() const;
  // Between two nodes that are both here, by their names.
  std::vector<std::pair<atom, atom>> edges_here() const;
  // Nodes of that plugin are made of this image from now on, which has their
  // tasks.
  bool can_change_to(const plugin::image& image) const;
  void change_to(const plugin::image_ptr& image);

  // ---- Once more, by the kill switch, which ends what fails ----------------

  // Whether the VM's kill switch says when.
  bool is_led() const { return spec_.has_vm(); }
  const pid& leader() const noexcept { return leader_; }
  co_op about() const;
  // How many data wait here, between two bodies.
  std::uint64_t waiting() const noexcept;
  // False if the head is not here.
  bool stop_entry();
  // What the nodes have sent to the VM: the reply to {fall, Reason}.
  term fallen() const;
  // The nodes are at rest: takes what waits there, and makes their successors;
  // as begin(), up to is_done().
  void begin_again(kill_switch& maker);
  // The co-op is all here: wires it.
  void connect_again(const term& reason, losses l);
  // The reply to `rebuild`.
  term rebuilt(losses l) const;

private:
  using node_ptr = boost::intrusive_ptr<coop_node>;
  // Of a node by `consume`: its first workers.
  struct place {
    pid p;
    node_ptr here; // null: in another home
    std::vector<node_ptr> workers;
    std::vector<pid> fresh;
  };

  node_ptr spawn_node(std::size_t i);
  node_ptr spawn_worker(std::size_t i);
  std::vector<member_ptr> spawn_members();
  void spawn_workers();
  void watch(node::process& maker, const node::process& p, atom name);
  void initialise(std::size_t i, node::process& maker);
  void initialise(std::size_t i, const node_ptr& n, node::process& maker);
  void make_head(node::process& maker);
  void connect(const pid& head_pid, const pid& parent);
  void connect_nodes(const pid& head_pid);
  void connect_node(std::size_t i, const pid& head_pid);
  std::unique_ptr<wiring> worker_wiring(std::size_t i) const;
  worker_pool pool_of(std::size_t router, std::size_t worker) const;
  std::optional<term> read_pids(const term& pids);
  term workers_here() const;
  void connect_head(std::optional<restart> after);
  std::unique_ptr<founding> what_the_head_needs() const;
  std::vector<std::pair<atom, pid>> named() const;
  void gather_facts(const pid& head_pid);
  std::unique_ptr<wiring> base_wiring() const;
  boost::intrusive_ptr<local_link> link_between(std::uint32_t number,
                                                member_ptr from, member_ptr to);

  node::node& home_;
  spec spec_; // but for change_to() it does not change
  const queue_limits limits_;
  const std::vector<std::size_t> entries_;
  const std::size_t last_tier_;
  std::vector<std::vector<std::uint32_t>> in_, out_; // each node's edges' numbers
  kill_switch_ptr switch_;
  boost::intrusive_ptr<head> head_;                     // null: on the VM
  std::vector<place> places_;                           // as spec_.nodes
  std::vector<boost::intrusive_ptr<local_link>> links_; // by edge number - 1
  std::map<std::pair<atom, atom>, node::origin_ptr> origins_; // {Plugin, Task}
  facts_ptr facts_ = no_facts(), facts_of_workers_ = no_facts();
  std::vector<pid> switches_;
  pid leader_, other_switch_, group_leader_;
  bool is_connected_ = false, is_again_ = false;
  std::vector<node::message_list> waiting_; // as spec_.nodes: of their lanes
  edge_counts carried_;                     // how many of those, or on the VM

  pid parent_;
  std::optional<ref> of_parent_;          // its monitor
  std::unordered_map<ref, atom> watched_; // what lives, by its monitor
  std::size_t left_ = 0;                  // nodes to initialise
  std::optional<term> failure_;
};

} // namespace esp::coop
