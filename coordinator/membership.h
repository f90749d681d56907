// Who is in the cluster: joins, load progress, heartbeats and their absence, departures.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/status.h"
#include "comm/mailbox.h"
#include "coordinator/generation_service.h"
#include "model/neuron_order.h"
#include "placement/plan.h"
#include "proto/messages.h"

namespace thermocline::coordinator {

// A worker that must join before there is a plan.
struct ExpectedWorker {
  WorkerId id;
  std::string host;  // where it was launched, for messages; "" when unknown
};

struct MembershipOptions {
  std::vector<ExpectedWorker> expected;
  std::string build;                                 // a worker of another build is refused
  Duration join_timeout = std::chrono::seconds(60);  // for all to say hello
  Duration heartbeat_expiry = std::chrono::seconds(5);
};

// The table of workers. No I/O, no clock, no thread. Engine thread only.
class Membership {
 public:
  Membership(const MembershipOptions& options, TimePoint now);

  // Admits the worker under its wanted id, or under the lowest free expected id; once there is a
  // plan, as a spare under an id that nobody has had. kInvalidArgument says why it is refused:
  // another protocol or build, an id that is taken or not expected, a cluster that is complete and
  // not served yet, or has more workers than plans are made for.
  Result<WorkerId> OnHello(comm::PeerId peer, const proto::Hello& hello, TimePoint now);
  // Whether nobody but this worker can fill its place: it asks for an id that is expected and free,
  // as an MPI rank does. The cluster cannot start without it.
  bool Needs(const proto::Hello& hello) const;
  // Messages of peers that were not admitted: kNotFound.
  Status OnHeartbeat(comm::PeerId peer, const proto::Heartbeat& heartbeat, TimePoint now);
  Status OnLoadProgress(comm::PeerId peer, const proto::LoadProgress& progress, TimePoint now);
  Status OnReady(comm::PeerId peer, const proto::Ready& ready, TimePoint now);
  // Tells the table which stage each worker leads.
  void OnPlan(const placement::Plan& plan, TimePoint now);

  // kInvalidArgument names a member of a shared stage whose neurons stand in another order than
  // that of the plan, which `order` is; when all are ready.
  Status CheckNeuronOrders(const placement::Plan& plan, const model::NeuronOrder& order) const;
  // What a step's stages took, by the plan's order.
  void OnStepTimes(const std::vector<uint32_t>& stage_compute_us);

  // kDeadlineExceeded names the workers that did not join in time.
  Status CheckJoinDeadline(TimePoint now) const;
  // The workers whose heartbeats ceased, each with a kUnavailable that says so.
  std::vector<std::pair<WorkerId, Status>> Silent(TimePoint now) const;
  // Who has something to load and has loaded nothing more of it for `patience`.
  std::vector<WorkerId> StuckLoading(TimePoint now, Duration patience) const;
  // Has no stage in the plan: the service goes on without it.
  bool IsSpare(WorkerId id) const;
  void Remove(WorkerId id);
  // Wants to leave since `now`, or no longer does.
  void SetLeaving(WorkerId id, bool leaving, TimePoint now);
  // Who has wanted to leave for `patience` or longer.
  std::vector<WorkerId> Leavers(TimePoint now, Duration patience) const;
  // Grows whenever somebody comes, goes, wants to go, or gets another place.
  uint64_t version() const { return version_; }
  bool contains(WorkerId id) const { return members_.contains(id); }

  // All have joined; stays so when a spare worker leaves.
  bool complete() const { return has_plan_ || members_.size() == options_.expected.size(); }
  // Every lead of the plan has loaded its weights.
  bool all_ready() const;
  // What the workers told that do not want to leave, or are `kept` nevertheless; the bandwidth of
  // each host divided among its workers by their cores, its memory evenly among those that offer
  // all of it.
  placement::ClusterProfile profile(const std::vector<WorkerId>& kept = {}) const;
  std::optional<WorkerId> FindId(comm::PeerId peer) const;
  const proto::Hello& hello(WorkerId id) const { return members_.at(id).hello; }
  // The place where a group of GPUs that this worker leads can meet has been told to one.
  void UseUpNcclId(WorkerId id) { members_.at(id).hello.nccl_id.clear(); }
  // The same of a link from its GPU to that of the next stage.
  void UseUpNcclLinkId(WorkerId id) { members_.at(id).hello.nccl_link_id.clear(); }
  comm::PeerId peer(WorkerId id) const { return members_.at(id).peer; }
  std::vector<WorkerId> ids() const;
  // That this worker and others compute with more threads than their host has, and what to do; ""
  // when they do not.
  std::string CrowdingNote(WorkerId id) const;
  // "worker 2 on node3"
  std::string NameOf(WorkerId id) const;
  // Heartbeat ages as of `now`.
  std::vector<WorkerStatus> Statuses(TimePoint now) const;

 private:
  struct Member {
    comm::PeerId peer;
    proto::Hello hello;
    WorkerStatus status;
    TimePoint last_seen;
    TimePoint last_heartbeat;
    TimePoint last_loaded;  // when the plan came, or more of its part was there
    bool ready = false;
    uint64_t neuron_order = 0;  // as it said when ready
    TimePoint leaving_since;    // when status.leaving
  };

  Member* Find(comm::PeerId peer);
  // Who is planned with.
  bool Stays(WorkerId id, const std::vector<WorkerId>& kept) const;
  uint64_t MemoryOf(const Member& member, const std::vector<WorkerId>& kept) const;
  Result<WorkerId> ChooseId(const proto::Hello& hello) const;
  Status CheckVersion(const proto::Hello& hello) const;
  Status CheckNeuronOrder(WorkerId worker, uint64_t planned) const;
  bool IsExpected(WorkerId id) const;
  std::string MissingWorkers() const;

  const MembershipOptions options_;
  const TimePoint started_;
  std::map<WorkerId, Member> members_;
  bool has_plan_ = false;
  uint64_t version_ = 1;
  WorkerId last_id_;                   // the largest so far, expected ones included
  std::vector<std::string> refusals_;  // why somebody was refused, for the deadline's message
};

}  // namespace thermocline::coordinator
