// A worker's conversation with the coordinator: hello, plan, progress, steps, heartbeats, goodbye.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"
#include "comm/join_ticket.h"
#include "comm/link.h"
#include "comm/mailbox.h"
#include "kernels/device.h"
#include "kernels/device_choice.h"
#include "proto/messages.h"
#include "worker/device_memory.h"
#include "worker/gpu_ways.h"
#include "worker/link_prober.h"
#include "worker/step_loop.h"
#include "worker/tracer.h"

namespace thermocline::worker {

struct WorkerOptions {
  comm::JoinTicket ticket;
  std::optional<WorkerId> wanted_id;  // the MPI rank under mpirun
  int n_threads = 1;
  std::vector<int> cpus;  // thread i of the step stays on the i-th; none: not pinned
  kernels::DeviceChoice device;
  // A launcher has started other workers on this host and nobody has named a GPU: the ordinal is
  // this one's place among them; see ClaimDevice.
  bool claims_device = false;
  std::string isa = "auto";   // instruction set of the CPU's kernels
  uint64_t memory_bytes = 0;  // what the plan may use here, on a CPU
  bool offers_host = false;   // which is all that was free: nobody gave it a part
  // Workers that started together on a host with fewer cores than threads measure themselves in
  // turns, as many at once as can compute at once.
  int measuring_turn = 0;
  // What the process may use of a GPU, whatever for; 0: what is free.
  uint64_t gpu_memory_bytes = 0;
  // How a GPU holds the rows of its neurons; a CPU holds them as they are.
  model::NeuronRows neuron_rows = model::NeuronRows::kAsIs;
  std::string cache_dir;                      // for weights that come by wire
  double slowdown = 1;                        // of computing, in experiments
  bool uses_graphs = true;                    // of a GPU that can replay steps
  bool uses_nccl = true;                      // where it is there; of a GPU
  bool always_nccl = false;                   // between stages, even where the host's way is faster
  std::optional<comm::ShapingOptions> shape;  // what links are made to be like, in experiments
  std::function<void(WorkerId)> on_welcome;   // called once, when the id is known; may be null
};

// The data ports this worker opened; either may be null.
struct WorkerPorts {
  std::unique_ptr<comm::DataPort> mpi;
  std::unique_ptr<comm::DataPort> zmq;
};

// What a person or the system may ask of a worker by signals; lock-free, so that a handler can
// reach it.
struct WorkerRequests {
  std::atomic<bool> stop{false};   // end now
  std::atomic<bool> leave{false};  // end when the work is done elsewhere
  // Whether asking politely makes sense: in a service, which has not said that it needs this
  // worker.
  std::atomic<bool> may_leave{false};
};

// Owns the step loop. Run belongs to one thread, the control thread.
class ControlLoop {
 public:
  // `peer` is this incarnation's id at the mailbox.
  ControlLoop(const WorkerOptions& options, const Clock& clock, comm::Mailbox& mailbox,
              comm::PeerId peer, WorkerPorts ports, std::unique_ptr<kernels::Device> device,
              GpuWays gpu_ways = {});
  ~ControlLoop();

  // Serves until the coordinator says shutdown, which it does when a worker may leave, or stop is
  // requested (both ok), or something is lost: kUnavailable when the coordinator is silent too
  // long, its own code (kInvalidArgument) when it refuses this worker, otherwise the step loop's
  // error, which has then been reported to the coordinator. A lost link to another worker is
  // reported too, and another plan awaited.
  Status Run(WorkerRequests& requests);

 private:
  Status Serve(WorkerRequests& requests);
  void AskToLeave(WorkerRequests& requests);
  Status SendHello();
  Status Send(const proto::Message& message);
  void SendHeartbeat();
  Status RefusedBy(StatusCode code, const std::string& reason);
  // True when the worker should end.
  Result<bool> Handle(proto::Message message, WorkerRequests& requests);
  Status StartStage(proto::AssignPlan message);
  Status KeepTable(proto::NeuronTable table);
  void StartProbe(const proto::ProbeLink& request);
  Status ReportProbe();
  DataPorts ports() const { return {ports_.mpi.get(), ports_.zmq.get()}; }
  void OnStepLoopEnd(StepEnd end);
  std::optional<StepEnd> TakeStepEnd();
  Status ReportStepEnd();
  void SendSpans();

  const WorkerOptions options_;
  const Clock& clock_;
  comm::Mailbox& mailbox_;
  const comm::PeerId peer_;
  WorkerPorts ports_;
  std::unique_ptr<kernels::Device> device_;
  const GpuWays gpu_ways_;
  DeviceHoldings holdings_;  // of a device with memory of its own
  bool welcome_ = false;     // the coordinator has accepted this worker as id_
  bool refused_ = false;
  WorkerId id_;
  Epoch epoch_;
  TimePoint last_heard_;
  TimePoint last_heartbeat_;
  bool has_asked_to_leave_ = false;
  std::vector<proto::NeuronTable> neuron_tables_;  // of the epoch to come
  StepCounters counters_;
  std::unique_ptr<Tracer> tracer_;  // while the coordinator wants spans
  Mutex mutex_;
  std::optional<StepEnd> step_end_ GUARDED_BY(mutex_);  // of the loop that is
  std::optional<DeviceHop> probe_hop_;                  // of prober_, where the device is apart
  // One of them at a time has a thread, which alone uses the ports.
  std::unique_ptr<LinkProber> prober_;
  std::unique_ptr<StepLoop> step_loop_;  // last: its thread uses what is above
};

}  // namespace thermocline::worker
