// The step thread of a worker: loads its stage, then runs every batch that arrives and passes the
// result on. It owns the stage, the device and the links.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/queue.h"
#include "base/status.h"
#include "comm/mailbox.h"
#include "kernels/device.h"
#include "placement/plan.h"
#include "proto/messages.h"
#include "worker/activation_link.h"
#include "worker/assignment.h"
#include "worker/device_hop.h"
#include "worker/device_memory.h"
#include "worker/gpu_link.h"
#include "worker/gpu_ways.h"
#include "worker/helper_stage.h"
#include "worker/part_links.h"
#include "worker/peer_device.h"
#include "worker/stage.h"
#include "worker/tracer.h"

namespace thermocline::worker {

// Numbers for heartbeats. Written by the step thread, read by the control thread.
struct StepCounters {
  std::atomic<uint64_t> steps_done{0};
  std::atomic<uint64_t> compute_us{0};
  std::atomic<uint64_t> wait_us{0};
  std::atomic<uint64_t> link_bytes_sent{0};
  std::atomic<uint64_t> stale_frames{0};
  std::atomic<int64_t> kv_pages_used{0};
};

// A worker's ends of all its links, by transport; null where it has none.
struct DataPorts {
  comm::DataPort* mpi = nullptr;
  comm::DataPort* zmq = nullptr;

  comm::DataPort* Of(placement::LinkKind transport) const {
    return transport == placement::LinkKind::kMpi ? mpi : zmq;
  }
};

// What the step thread needs from its worker; all outlive it.
struct StepContext {
  const Clock& clock;
  comm::Mailbox& mailbox;  // Send only
  DataPorts ports;         // every one that the plan's links to this worker need
  kernels::Device& device;
  StepCounters& counters;
  std::span<const int> cpus;  // that the step thread runs on; none: wherever the system puts it
  Tracer* tracer = nullptr;   // null: nobody traces
  // By what the device reaches other GPUs; null: it reaches none.
  const GpuWays* gpu_ways = nullptr;
  // Of the device's memory; without any for graphs of steps none are made.
  DeviceHoldings holdings = {};
};

// What one step loop leaves to the next, of another plan for the same model.
struct HeldModel {
  std::optional<LoadedModel> model;
  Shard shard;
};

// Why a step loop stopped by itself.
struct StepEnd {
  Status why;                         // an error
  std::optional<WorkerId> lost_peer;  // it is only that the link to this worker is gone
};

// Created by the control thread, which joins it in the destructor.
class StepLoop {
 public:
  // Starts loading at once, from `held` what it has. `on_end` is called on the step thread when it
  // stops by itself, which is always an error: the loop otherwise runs until it is ended.
  StepLoop(const StepContext& context, Assignment assignment, std::function<void(StepEnd)> on_end,
           HeldModel held = {});
  ~StepLoop();

  // Ends the loop and hands out its weights; nothing where it had not loaded them.
  HeldModel End();

  // A batch from the coordinator, for the first stage. False when the queue is full: the
  // coordinator has more steps in flight than it promised.
  bool Submit(proto::StepBatch batch);

  // Measures a link as soon as no batch is in the stage, before the next begins; the report goes to
  // the coordinator. A request that is there when another comes is forgotten. The request's
  // transport has a port.
  void Probe(const proto::ProbeLink& request);

 private:
  // How long the step thread waits before it looks whether it should stop.
  static constexpr Duration kPollInterval = std::chrono::milliseconds(100);

  // A probe that waits for a gap between batches, and until when it may begin.
  struct WaitingProbe {
    proto::ProbeLink request;
    TimePoint begin_by;
  };
  // A batch in the stage, since when, and since when none older was in its way.
  struct UnderWay {
    proto::StepBatch batch;
    TimePoint begun;
    TimePoint since;
  };

  void Run();
  std::optional<WorkerId> LostPeer() const;
  void Join();
  Status Prepare();
  Status OpenModelOfPlan(const LoadProgressFn& on_progress);
  proto::Ready ReadyMessage() const;
  Status LoadStage(const LoadProgressFn& on_progress);
  Status LoadHelper(const LoadProgressFn& on_progress);
  Status OpenLinks();
  Result<std::unique_ptr<ActivationLink>> OpenLink(WorkerId peer, const std::string& address,
                                                   placement::LinkWay way);
  // Meets the GPUs that NCCL joins this one with; waits for those whose workers still load.
  Status MeetGpus();
  // The other members of the stage's group.
  Status JoinGroup();
  Status ConnectToLead();
  // Those of the stages before and behind, as far as the plan joins them.
  Status JoinNeighbours();
  GpuLinkContext GpuLinkTo(std::string_view nccl_id);
  // Gives up what is shared with other GPUs, and finds out whose fault `end` is.
  void LeavePeers(StepEnd* end);
  // After the loss of a group, which is not this worker's: the coordinator hears of it too, and
  // plans anew or ends the service.
  void AwaitVerdict(const Status& loss) const;
  kernels::Device& device() { return peer_device_ ? *peer_device_ : context_.device; }
  Status ServeUntilStopped();
  // Nothing has gone on since then. Errors of the device.
  Status LookAtDevice(TimePoint waits_since, TimePoint* looked);
  // A helper's loop: parts of layers as the lead asks for them.
  Status HelpUntilStopped();
  Status Help(proto::Part part);
  // The probe that waits; false when none does.
  bool MakeProbe();
  void CountSent();
  void TellFiring();
  void LogFfn() const;
  // Takes the next batch, if one comes within `wait`, and begins it unless those under way are in
  // its way, or a probe waits for their end.
  Status BeginNext(Duration wait);
  // Into held_; the same.
  Status TakeNext(Duration wait);
  // A batch from the coordinator, or from the previous stage with its activation.
  Result<bool> NextSubmitted(Duration wait, proto::StepBatch* batch);
  Result<bool> NextFrame(Duration wait, proto::StepBatch* batch);
  // Repeats `attempt`, which waits at most the given time, until `wait` is over, and meanwhile sees
  // the last activation off.
  Result<bool> AwaitFlushing(Duration wait, const std::function<Result<bool>(Duration)>& attempt);
  // Sends on what the oldest batch has become.
  Status EndBatch();
  Status SendOn(proto::StepBatch* batch);
  // Of the step thread for `what`.
  void CountWait(std::string_view what, TimePoint begin, TimePoint end);
  void TraceBatch(const UnderWay& done) const;
  Status SendResult(proto::StepBatch* batch);
  Status SendControl(const proto::Message& message);
  // kAborted when the loop is to stop.
  Status ReportProgress(uint64_t bytes_done, uint64_t bytes_total);

  const StepContext context_;
  const Assignment assignment_;
  const std::function<void(StepEnd)> on_end_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> has_probe_{false};
  Mutex mutex_;
  std::optional<WaitingProbe> probe_ GUARDED_BY(mutex_);
  BoundedQueue<proto::StepBatch> submitted_;

  HeldModel prior_;  // of the plan before
  LoadedModel model_;
  std::optional<PeerDevice> peer_device_;  // where NCCL joins it with others
  // Where the device is apart; its copies lie in one queue with work of other GPUs, which may never
  // end: so it is device().
  std::optional<DeviceHop> probe_hop_;
  std::unique_ptr<LogitsSink> logits_sink_;
  std::unique_ptr<Stage> stage_;         // of a lead
  std::unique_ptr<HelperStage> helper_;  // of a helper
  std::unique_ptr<FiringCounter> firing_;
  kernels::Traffic traffic_at_start_;
  std::unique_ptr<ActivationLink> previous_;
  std::unique_ptr<ActivationLink> next_;
  // Within the stage: of a lead to its helpers, in the plan's order; of a helper to its lead.
  std::vector<std::unique_ptr<ActivationLink>> part_links_;
  std::unique_ptr<LeadLinks> helpers_;
  std::unique_ptr<HelperLink> lead_;
  std::optional<WorkerId> unreachable_;  // who could not be connected to
  Buffer first_word_;                    // between members of the group
  std::unique_ptr<StageGroup> group_;
  // Along previous_ and next_, where those stages are on GPUs that NCCL reaches.
  std::unique_ptr<GpuReceiver> gpu_previous_;
  std::unique_ptr<GpuSender> gpu_next_;
  std::optional<proto::StepBatch> held_;  // came, and cannot begin yet
  std::deque<UnderWay> under_way_;        // in the stage, the oldest first
  StepId helped_step_;
  TimePoint last_progress_;
  std::thread thread_;
};

}  // namespace thermocline::worker
