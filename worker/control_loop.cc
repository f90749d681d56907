#include "worker/control_loop.h"

#include <unistd.h>

#include <algorithm>
#include <thread>
#include <utility>
#include <variant>

#include "base/cpu_list.h"
#include "base/host_info.h"
#include "base/log.h"
#include "base/str.h"
#include "base/version.h"
#include "proto/codec.h"
#include "worker/device_memory.h"
#include "worker/profiler.h"

namespace thermocline::worker {
namespace {

using std::chrono::milliseconds;

constexpr Duration kHeartbeatInterval = milliseconds(500);
// Between two looks at the stop flag.
constexpr Duration kPollInterval = milliseconds(100);
// A coordinator that is alive beats every 500 ms; ten seconds of silence outlast any pause of a
// loaded machine.
constexpr Duration kCoordinatorSilence = std::chrono::seconds(10);

// Of the GPU that computes; "" when none does.
std::string PlaceOf(const GpuWays& ways) {
  return ways.gpu == nullptr ? std::string() : ways.gpu->pci_bus_id();
}

}  // namespace

ControlLoop::ControlLoop(const WorkerOptions& options, const Clock& clock, comm::Mailbox& mailbox,
                         comm::PeerId peer, WorkerPorts ports,
                         std::unique_ptr<kernels::Device> device, GpuWays gpu_ways)
    : options_(options),
      clock_(clock),
      mailbox_(mailbox),
      peer_(peer),
      ports_(std::move(ports)),
      device_(std::move(device)),
      gpu_ways_(std::move(gpu_ways)) {}

ControlLoop::~ControlLoop() = default;

Status ControlLoop::Run(WorkerRequests& requests) {
  const Status status = Serve(requests);
  requests.may_leave = false;
  if (!status.ok() && !refused_) {
    (void)Send(proto::Failure{status});
    (void)mailbox_.Receive(clock_.Now() + kPollInterval);  // lets the failure leave
  }
  return status;
}

Status ControlLoop::Serve(WorkerRequests& requests) {
  TC_RETURN_IF_ERROR(SendHello());
  last_heard_ = clock_.Now();
  while (!requests.stop) {
    if (requests.leave && !has_asked_to_leave_) AskToLeave(requests);
    TC_ASSIGN_OR_RETURN(auto received, mailbox_.Receive(clock_.Now() + kPollInterval));
    if (received) {
      last_heard_ = clock_.Now();
      TC_ASSIGN_OR_RETURN(proto::Message message, proto::Decode(received->frame.header));
      TC_ASSIGN_OR_RETURN(const bool done, Handle(std::move(message), requests));
      if (done) {
        SendSpans();
        return OkStatus();
      }
    }
    TC_RETURN_IF_ERROR(ReportProbe());
    SendSpans();
    TC_RETURN_IF_ERROR(ReportStepEnd());
    if (clock_.Now() - last_heartbeat_ >= kHeartbeatInterval) SendHeartbeat();
    if (clock_.Now() - last_heard_ > kCoordinatorSilence) {
      return Unavailable(
          Str("the coordinator has been silent for ", Seconds(kCoordinatorSilence), " s"));
    }
  }
  (void)Send(proto::Shutdown{"stopped by a signal"});
  return OkStatus();
}

// Without an answer nothing changes; whoever asks again ends this worker.
void ControlLoop::AskToLeave(WorkerRequests& requests) {
  has_asked_to_leave_ = true;
  requests.may_leave = false;
  LogInfo("worker", "asked to end: leaving when the work is done elsewhere; asked again, at once");
  const Status sent = Send(proto::Leaving{"asked to by a signal"});
  if (!sent.ok()) LogDebug("worker", Str("wish to leave not sent: ", sent));
}

Status ControlLoop::SendHello() {
  proto::Hello hello;
  hello.build = std::string(kVersion);
  hello.wanted_id = options_.wanted_id;
  hello.pid = getpid();
  if (device_->reads_host_memory()) {
    std::this_thread::sleep_for(options_.measuring_turn * (kProfileTime + kTurnMargin));
  }
  TC_ASSIGN_OR_RETURN(hello.profile, MeasureWorker(*device_, {.n_threads = options_.n_threads,
                                                              .cpus = options_.cpus,
                                                              .memory_bytes = options_.memory_bytes,
                                                              .slowdown = options_.slowdown,
                                                              .pci_bus_id = PlaceOf(gpu_ways_),
                                                              .rows = options_.neuron_rows}));
  hello.profile.neuron_rows = options_.neuron_rows;
  // After the measurement, which has had the device take what it takes for itself.
  if (!device_->reads_host_memory()) {
    const bool may_meet_others =
        gpu_ways_.nccl != nullptr && (hello.profile.gpus.size() > 1 || !gpu_ways_.one_host);
    const DeviceBudget budget = {.bytes = options_.gpu_memory_bytes,
                                 .nccl_bytes = may_meet_others ? kNcclMemoryBytes : 0};
    TC_ASSIGN_OR_RETURN(const uint64_t offered, MemoryToOffer(*device_, budget));
    holdings_ = {.budget_bytes = budget.bytes, .nccl_bytes = budget.nccl_bytes};
    if (options_.uses_graphs && device_->recorder() != nullptr) {
      holdings_.graph_bytes = GraphBytes(offered);
    }
    hello.profile.memory_bytes = offered - holdings_.graph_bytes;
  }
  if (gpu_ways_.nccl != nullptr) hello.profile.nccl_version = gpu_ways_.nccl->version();
  hello.host = hello.profile.host;
  hello.device = device_->name();
  if (options_.neuron_rows != model::NeuronRows::kAsIs) {
    hello.device += Str(", neuron rows ", model::NeuronRowsName(options_.neuron_rows));
  }
  hello.offers_host = options_.offers_host;
  if (ports_.mpi != nullptr) hello.mpi_address = ports_.mpi->address();
  if (ports_.zmq != nullptr) hello.zmq_address = ports_.zmq->address();
  if (gpu_ways_.gpu != nullptr) hello.gpu_uuid = gpu_ways_.gpu->uuid();
  if (gpu_ways_.nccl != nullptr) hello.nccl_version = gpu_ways_.nccl->version();
  hello.nccl_id = gpu_ways_.MakeId();
  hello.nccl_link_id = gpu_ways_.MakeId();
  return Send(hello);
}

Status ControlLoop::Send(const proto::Message& message) {
  std::vector<std::byte> bytes;
  proto::Encode(message, &bytes);
  return mailbox_.Send(comm::kServerPeer, {bytes, {}});
}

void ControlLoop::SendHeartbeat() {
  last_heartbeat_ = clock_.Now();
  proto::Heartbeat beat;
  beat.epoch = epoch_;
  beat.steps_done = counters_.steps_done;
  beat.peak_rss_bytes = PeakRssBytes();
  beat.compute_us = counters_.compute_us;
  beat.wait_us = counters_.wait_us;
  beat.link_bytes_sent = counters_.link_bytes_sent;
  beat.stale_frames = counters_.stale_frames;
  beat.kv_pages_used = counters_.kv_pages_used;
  const Status sent = Send(beat);
  if (!sent.ok()) LogDebug("worker", Str("heartbeat not sent: ", sent));
}

Result<bool> ControlLoop::Handle(proto::Message message, WorkerRequests& requests) {
  if (auto* welcome = std::get_if<proto::Welcome>(&message)) {
    welcome_ = true;
    id_ = welcome->id;
    if (options_.on_welcome) options_.on_welcome(id_);
    epoch_ = welcome->epoch;
    requests.may_leave = true;
  } else if (const auto* probe = std::get_if<proto::ProbeLink>(&message)) {
    StartProbe(*probe);
  } else if (auto* plan = std::get_if<proto::AssignPlan>(&message)) {
    TC_RETURN_IF_ERROR(StartStage(std::move(*plan)));
  } else if (auto* batch = std::get_if<proto::StepBatch>(&message)) {
    if (step_loop_ == nullptr || !step_loop_->Submit(std::move(*batch))) {
      return Internal("a step came before its plan, or more steps than the queue holds");
    }
  } else if (auto* table = std::get_if<proto::NeuronTable>(&message)) {
    TC_RETURN_IF_ERROR(KeepTable(std::move(*table)));
  } else if (auto* stay = std::get_if<proto::Stay>(&message)) {
    LogWarn("worker", Str("the service cannot do without this worker: ", Printable(stay->reason),
                          "; asked to end once more, it ends, and the service with it"));
  } else if (auto* probe = std::get_if<proto::ClockProbe>(&message)) {
    const int64_t at_ns = clock_.Now().since_start.count();
    const Status sent = Send(proto::ClockEcho{.sent_ns = probe->sent_ns, .at_ns = at_ns});
    if (!sent.ok()) LogDebug("worker", Str("clock not told: ", sent));
  } else if (auto* shutdown = std::get_if<proto::Shutdown>(&message)) {
    if (!welcome_) return RefusedBy(StatusCode::kInvalidArgument, shutdown->reason);
    LogDebug("worker", Str("shutdown: ", shutdown->reason));
    return true;
  } else if (auto* failure = std::get_if<proto::Failure>(&message)) {
    return RefusedBy(failure->status.code(), failure->status.message());
  }
  return false;
}

Status ControlLoop::RefusedBy(StatusCode code, const std::string& reason) {
  refused_ = true;  // so that it is not told what it has just said
  return Status(code, Str("refused by the coordinator: ", Printable(reason)));
}

Status ControlLoop::KeepTable(proto::NeuronTable table) {
  if (!neuron_tables_.empty() && neuron_tables_.front().epoch != table.epoch) {
    neuron_tables_.clear();
  }
  if (neuron_tables_.size() >= model::kMaxLayers) {
    return DataLoss(Str("more neuron tables than a model has layers:", Kv("epoch", table.epoch)));
  }
  neuron_tables_.push_back(std::move(table));
  return OkStatus();
}

Status ControlLoop::StartStage(proto::AssignPlan message) {
  HeldModel held;
  prober_.reset();
  probe_hop_.reset();  // the stage's memory is planned without it
  if (step_loop_ != nullptr) held = step_loop_->End();
  step_loop_.reset();
  // A link that broke was of the plan before; what else failed is not better now.
  const std::optional<StepEnd> end = TakeStepEnd();
  if (end && !end->lost_peer) return end->why;
  epoch_ = message.plan.epoch;
  auto tables = std::exchange(neuron_tables_, {});
  if (message.stage < 0) return OkStatus();  // spare: holds nothing, answers heartbeats
  if (message.stage >= static_cast<int>(message.plan.stages.size())) {
    return DataLoss(Str("plan without the assigned stage:", Kv("stage", message.stage)));
  }
  const auto& helpers = message.plan.stages[static_cast<size_t>(message.stage)].helpers;
  if (message.helper >= static_cast<int>(helpers.size())) {
    return DataLoss(Str("plan without the assigned helper:", Kv("helper", message.helper)));
  }
  TC_RETURN_IF_ERROR(CheckGroup(message));
  if (message.trace && tracer_ == nullptr) tracer_ = std::make_unique<Tracer>(clock_);
  Assignment assignment;
  if (!tables.empty() && tables.front().epoch == epoch_) {
    assignment.neuron_tables = std::move(tables);
  }
  assignment.message = std::move(message);
  assignment.self = id_;
  assignment.key = options_.ticket.key;
  assignment.cache_dir = options_.cache_dir;
  assignment.rows = options_.neuron_rows;
  assignment.peer = peer_.value;
  for (const placement::LinkWay& way : assignment.Ways()) {
    if (ports().Of(way.link) != nullptr) continue;
    return Unavailable(Str("this worker has no port for a transport of the plan:",
                           Kv("transport", placement::LinkKindName(way.link))));
  }
  step_loop_ = std::make_unique<StepLoop>(
      StepContext{.clock = clock_,
                  .mailbox = mailbox_,
                  .ports = ports(),
                  .device = *device_,
                  .counters = counters_,
                  .cpus = FirstOf(options_.cpus),
                  .tracer = tracer_.get(),
                  .gpu_ways = &gpu_ways_,
                  .holdings = holdings_},
      std::move(assignment), [this](StepEnd end) { OnStepLoopEnd(std::move(end)); },
      std::move(held));
  return OkStatus();
}

// Ports are the step thread's while it serves, which then makes the probe.
void ControlLoop::StartProbe(const proto::ProbeLink& request) {
  prober_.reset();
  comm::DataPort* const port = ports().Of(request.transport);
  const bool is_between_steps = step_loop_ != nullptr && request.patience_us > 0;
  if (port != nullptr && is_between_steps) return step_loop_->Probe(request);
  if (port == nullptr || step_loop_ != nullptr) {
    const std::string why = port == nullptr ? "no port for that transport" : "serving already";
    const Status sent =
        Send(proto::LinkReport{.round = request.round, .peer = request.peer, .error = why});
    if (!sent.ok()) LogDebug("worker", Str("report not sent: ", sent));
    return;
  }
  if (!probe_hop_ && !device_->reads_host_memory()) probe_hop_.emplace(*device_, kLeastProbeBytes);
  prober_ = std::make_unique<LinkProber>(
      ProbeContext{clock_, *port, id_, FirstOf(options_.cpus), probe_hop_ ? &*probe_hop_ : nullptr},
      request, [this] { mailbox_.Wake(); });
}

Status ControlLoop::ReportProbe() {
  if (prober_ == nullptr) return OkStatus();
  const auto report = prober_->Take();
  if (!report) return OkStatus();
  prober_.reset();
  return Send(*report);
}

void ControlLoop::SendSpans() {
  while (tracer_ != nullptr) {
    const proto::TraceSpans spans = tracer_->Take();
    if (spans.spans.empty()) return;
    const Status sent = Send(spans);
    if (sent.ok()) continue;
    LogDebug("worker", Str("spans not sent: ", sent));
    return tracer_->CountLost(spans.spans.size());
  }
}

void ControlLoop::OnStepLoopEnd(StepEnd end) {
  {
    const MutexLock lock(mutex_);
    step_end_ = std::move(end);
  }
  mailbox_.Wake();
}

std::optional<StepEnd> ControlLoop::TakeStepEnd() {
  const MutexLock lock(mutex_);
  return std::exchange(step_end_, std::nullopt);
}

// The coordinator knows whether the peer is lost, and whether others can go on without it.
Status ControlLoop::ReportStepEnd() {
  const std::optional<StepEnd> end = TakeStepEnd();
  if (!end) return OkStatus();
  if (!end->lost_peer) return end->why;
  LogWarn("worker", Str("waiting for another plan: ", end->why.message(), Kv("epoch", epoch_)));
  return Send(proto::LinkLost{epoch_, *end->lost_peer, end->why.message()});
}

}  // namespace thermocline::worker
