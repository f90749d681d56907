#include "worker/launch.h"

#include <memory>
#include <random>
#include <string>
#include <utility>

#include "base/cpu_list.h"
#include "base/log.h"
#include "base/str.h"
#include "comm/data_ports.h"
#include "comm/mpi_runtime.h"
#include "worker/device_claim.h"
#include "worker/device_rows.h"
#include "worker/gpu_ways.h"

namespace thermocline::worker {
namespace {

comm::PeerId RandomPeer() {
  std::random_device random;
  const uint64_t high = random();
  return comm::PeerId{(high << 32) | random() | 1};  // never the server's 0
}

// Whether nobody but processes of this host can join.
bool IsLocal(const comm::JoinTicket& ticket) {
  return ticket.endpoints.front().starts_with("tcp://127.");
}

// Reachable as far as the coordinator is: only from this host when it listens on loopback.
std::string BindEndpoint(const comm::JoinTicket& ticket) {
  return IsLocal(ticket) ? "tcp://127.0.0.1:*" : "tcp://0.0.0.0:*";
}

Result<std::unique_ptr<comm::NcclLibrary>> LoadNccl(const WorkerOptions& options) {
  if (!options.uses_nccl) return Unavailable("--nccl off");
  if (options.device.kind == kernels::DeviceChoice::Kind::kCpu) return Unavailable("no GPU");
  return comm::NcclLibrary::Load({.one_host = IsLocal(options.ticket)});
}

// Peers know the ports by the id that the coordinator assigns, which comes with the plan.
Result<WorkerPorts> OpenPorts(const WorkerOptions& options, comm::MpiRuntime* mpi,
                              const std::atomic<bool>& stop) {
  WorkerPorts ports;
  if (mpi != nullptr) ports.mpi = mpi->MakeDataPort();
  comm::ZmqDataPortOptions zmq;
  zmq.key = options.ticket.key;
  zmq.stop = &stop;
  zmq.bind_endpoint = BindEndpoint(options.ticket);
  TC_ASSIGN_OR_RETURN(ports.zmq, comm::MakeZmqDataPort(zmq));
  if (!options.shape) return ports;
  for (auto* port : {&ports.mpi, &ports.zmq}) {
    if (*port != nullptr) *port = comm::ShapePort(std::move(*port), *options.shape);
  }
  return ports;
}

Result<ClaimedDevice> DeviceOf(const WorkerOptions& options) {
  const kernels::CpuDeviceOptions cpu = {options.n_threads, options.cpus};
  if (options.claims_device) return ClaimDevice(options.device, cpu);
  TC_ASSIGN_OR_RETURN(auto chosen, kernels::MakeDevice(options.device, cpu));
  return ClaimedDevice{std::move(chosen), std::nullopt, options.device.ordinal};
}

Status Serve(WorkerOptions options, comm::MpiRuntime* mpi, WorkerRequests& requests) {
  const std::atomic<bool>& stop = requests.stop;
  const comm::PeerId peer = RandomPeer();
  TC_RETURN_IF_ERROR(kernels::UseInstructionSet(options.isa).WithContext("--isa"));
  TC_RETURN_IF_ERROR(RunOn(options.cpus));
  auto nccl = LoadNccl(options);  // before a GPU's driver has threads
  TC_ASSIGN_OR_RETURN(ClaimedDevice claimed, DeviceOf(options));
  if (!claimed.chosen.note.empty()) LogInfo("worker", claimed.chosen.note);
  std::unique_ptr<kernels::Device> device = std::move(claimed.chosen.device);
  if (!device->reads_host_memory()) {
    options.n_threads = 1;  // the step thread
    options.offers_host = false;
  }
  const DeviceRows rows = RowsOn(*device, options.neuron_rows);
  if (!rows.note.empty()) LogInfo("worker", rows.note);
  options.neuron_rows = rows.rows;
  if (options.slowdown > 1) device = kernels::SlowDown(std::move(device), options.slowdown);
  GpuWays gpu_ways;
  if (device->stream() != nullptr) {
    gpu_ways = OpenGpuWays(claimed.ordinal, std::move(nccl));
    gpu_ways.always_nccl = options.always_nccl;
    gpu_ways.one_host = IsLocal(options.ticket);
  }
  TC_ASSIGN_OR_RETURN(WorkerPorts ports, OpenPorts(options, mpi, stop));
  comm::ZmqMailboxOptions mailbox_options;
  mailbox_options.key = options.ticket.key;
  mailbox_options.endpoints = options.ticket.endpoints;
  mailbox_options.self = peer;
  mailbox_options.stop = &stop;
  auto mailbox = comm::ConnectZmqMailbox(mailbox_options);
  if (!mailbox.ok()) return stop ? OkStatus() : mailbox.status();
  const SteadyClock clock;
  ControlLoop loop(options, clock, **mailbox, peer, std::move(ports), std::move(device),
                   std::move(gpu_ways));
  return loop.Run(requests);
}

}  // namespace

std::vector<std::string> ListCudaDevices() {
  std::vector<std::string> names;
  const auto gpus = kernels::CudaDeviceIds();
  const int n_gpus = gpus.ok() ? static_cast<int>(gpus->size()) : 0;
  for (int ordinal = 0; ordinal < n_gpus; ++ordinal) {
    const auto device = kernels::MakeCudaDevice(ordinal);
    if (device.ok()) {
      names.push_back((*device)->name());
    } else {
      LogWarn("worker", Str("a GPU cannot be used:", Kv("device", ordinal), "; ", device.status()));
    }
  }
  return names;
}

Status RunWorker(WorkerOptions options, bool under_mpi, WorkerRequests& requests) {
  if (!under_mpi) return Serve(options, nullptr, requests);
  TC_ASSIGN_OR_RETURN(auto mpi, comm::StartMpi());
  options.wanted_id = WorkerId{static_cast<uint64_t>(mpi->rank())};
  TC_ASSIGN_OR_RETURN(const std::string ticket, mpi->BroadcastFromRankZero(""));
  if (ticket.empty()) return OkStatus();  // the coordinator could not start, and says why
  TC_ASSIGN_OR_RETURN(options.ticket, comm::JoinTicket::Parse(ticket));
  const Status served = Serve(options, mpi.get(), requests);
  if (!served.ok()) mpi->Abandon();
  return served;
}

}  // namespace thermocline::worker
