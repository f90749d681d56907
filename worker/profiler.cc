#include "worker/profiler.h"

#include <algorithm>
#include <fstream>
#include <optional>

#include "base/cpu_list.h"
#include "base/host_info.h"
#include "base/log.h"
#include "base/str.h"
#include "base/thread_pool.h"
#include "base/units.h"
#include "worker/probe/bandwidth_probe.h"
#include "worker/probe/copy_probe.h"
#include "worker/probe/gpu_list.h"
#include "worker/probe/host_topology.h"
#include "worker/probe/huge_pages.h"
#include "worker/probe/op_probe.h"
#include "worker/probe/op_warmup.h"

namespace thermocline::worker {
namespace {

using placement::Figure;
using placement::WeightRate;
using placement::WeightUse;
using placement::WorkerProfile;

// What a reading takes: 64 MiB are long enough to time on any machine, and 1 MiB per thread lets
// hundreds of them end together.
constexpr uint64_t kRegionBytes = 64 * kMiB;
constexpr uint64_t kThreadRegionBytes = 1 * kMiB;

// A step of one sequence; of a few; where the CPU's kernels change to tiles; a chunk of a prompt.
constexpr int kComputeTokens[] = {1, 4, 16, 64};
// What is read of a matrix, and how many tokens meet each row. Between them and beyond, the cost
// model goes on in straight lines. Listed rows that all are read go as fast as a product with all.
constexpr WeightRate kWeightCases[] = {
    {.use = WeightUse::kMatMul, .n_tokens = 1},
    {.use = WeightUse::kMatMul, .n_tokens = 4},
    {.use = WeightUse::kMatMul, .n_tokens = 16},
    {.use = WeightUse::kNeurons, .row_share = placement::kGatherShare, .n_tokens = 1},
    {.use = WeightUse::kNeurons, .row_share = placement::kGatherShare, .n_tokens = 4},
    {.use = WeightUse::kNeurons, .row_share = placement::kGatherShare, .n_tokens = 16},
    {.use = WeightUse::kAxpyRows, .row_share = placement::kGatherShare, .n_tokens = 1},
    {.use = WeightUse::kAxpyRows, .row_share = placement::kGatherShare, .n_tokens = 4},
    {.use = WeightUse::kAxpyRows, .row_share = placement::kGatherShare, .n_tokens = 16},
    {.use = WeightUse::kAxpyRows, .n_tokens = 1},
};

// The parts of the time, by how much a measurement needs to be worth something: a reading takes
// several milliseconds, an op on weights from memory about one, a product in a cache less.
constexpr int kReadParts = 8, kCopyParts = 8, kWeightParts = 2, kComputeParts = 1, kTinyParts = 1;

// The files' types, and that of neuron rows where it is another.
std::vector<DType> TypesOf(const ProfilerOptions& options) {
  std::vector<DType> types(std::begin(kFileWeightTypes), std::end(kFileWeightTypes));
  if (const auto fp8 = model::Fp8TypeOf(options.rows)) types.push_back(*fp8);
  return types;
}

std::vector<int> ThreadCounts(int n_threads) {
  std::vector<int> counts;
  for (int n = 1; n < n_threads; n *= 2) counts.push_back(n);
  counts.push_back(n_threads);
  return counts;
}

// Beside products: a host's memory is read by some threads and by more, that of a GPU once, which
// has copies, too, where there is a place to put them down.
struct Readings {
  size_t n_reads = 1;
  bool has_copies = false;
};

// One part of the time that all measurements share.
Duration PartOf(const ProfilerOptions& options, const Readings& readings) {
  const auto n_types = static_cast<int64_t>(TypesOf(options).size());
  const auto n_reads = static_cast<int64_t>(readings.n_reads);
  const int copy_parts = readings.has_copies ? kCopyParts : 0;
  return options.time / (n_reads * kReadParts + copy_parts + kTinyParts +
                         n_types * static_cast<int64_t>(std::size(kWeightCases)) * kWeightParts +
                         n_types * static_cast<int64_t>(std::size(kComputeTokens)) * kComputeParts);
}

uint64_t RegionBytes(const ProfilerOptions& options) {
  const uint64_t wanted =
      std::max(kRegionBytes, kThreadRegionBytes * static_cast<uint64_t>(options.n_threads));
  return std::max(OpProbe::kMinBytes, std::min(wanted, options.memory_bytes / 4));
}

double StreamRate(BandwidthProbe& probe, ThreadPool& pool, Duration slot) {
  const SteadyClock clock;
  std::vector<double> seconds_per_byte;
  const TimePoint end = clock.Now() + slot;
  do {
    probe.Evict();
    pool.ParallelFor(pool.n_threads(), [](int64_t, int) {});  // wakes the threads
    seconds_per_byte.push_back(1 / probe.Stream(pool));
  } while (clock.Now() < end);
  return 1 / MedianSeconds(std::move(seconds_per_byte));
}

void MeasureReading(BandwidthProbe& probe, const ProfilerOptions& options, Duration part,
                    WorkerProfile* profile) {
  for (const int n : ThreadCounts(options.n_threads)) {
    const auto pool = ThreadPool::Create({.n_threads = n, .name = "probe", .cpus = options.cpus});
    if (!pool.ok()) continue;
    const double rate = StreamRate(probe, **pool, kReadParts * part) / options.slowdown;
    profile->read_rates.push_back({n, Figure::Measured(rate)});
    if (n == options.n_threads) profile->read_bytes_per_s = Figure::Measured(rate);
  }
}

Status MeasureOps(OpProbe& probe, const ProfilerOptions& options, Duration part,
                  WorkerProfile* profile) {
  TC_ASSIGN_OR_RETURN(const double op_s, probe.TinyOpSeconds(kTinyParts * part));
  profile->op_overhead_s = Figure::Measured(op_s);
  const std::vector<DType> types = TypesOf(options);
  for (const DType dtype : types) {
    for (WeightRate rate : kWeightCases) {
      rate.dtype = dtype;
      TC_ASSIGN_OR_RETURN(const double bytes_per_s, probe.BytesPerS(rate, kWeightParts * part));
      if (!(bytes_per_s > 0)) continue;
      rate.bytes_per_s = Figure::Measured(bytes_per_s);
      profile->weight_rates.push_back(rate);
      const bool is_plain_gather =
          dtype == DType::kF16 && rate.use == WeightUse::kNeurons && rate.n_tokens == 1;
      if (is_plain_gather) profile->gather_bytes_per_s = rate.bytes_per_s;
    }
  }
  for (const DType dtype : types) {
    for (const int n_tokens : kComputeTokens) {
      TC_ASSIGN_OR_RETURN(const double rate,
                          probe.FlopsPerS(dtype, n_tokens, kComputeParts * part));
      profile->compute_rates.push_back({dtype, n_tokens, Figure::Measured(rate)});
    }
  }
  return OkStatus();
}

std::vector<placement::GpuInfo> FindGpus() {
  auto gpus = ListGpus();
  if (gpus.ok()) return *std::move(gpus);
  const bool is_there = gpus.status().code() != StatusCode::kNotFound;
  if (is_there) LogWarn("worker", Str("GPUs not listed: ", gpus.status()));
  return {};
}

// Between the host's memory and the card that computes, when it is known which one that is.
Status MeasureBus(kernels::Device& device, Duration part, WorkerProfile* profile) {
  if (profile->gpu < 0) return OkStatus();
  TC_ASSIGN_OR_RETURN(const CopyRates copies, MeasureCopies(device, kCopyParts * part));
  placement::GpuInfo& gpu = profile->gpus[static_cast<size_t>(profile->gpu)];
  gpu.read_bytes_per_s = profile->read_bytes_per_s;
  gpu.upload_bytes_per_s = Figure::Measured(copies.upload_bytes_per_s);
  gpu.download_bytes_per_s = Figure::Measured(copies.download_bytes_per_s);
  gpu.copy_s = Figure::Measured(copies.copy_s);
  return OkStatus();
}

// Of a device with memory of its own; reading is what a product with one token does.
Status MeasureApart(kernels::Device& device, const ProfilerOptions& options,
                    WorkerProfile* profile) {
  const Duration part = PartOf(options, {.has_copies = profile->gpu >= 0});
  TC_RETURN_IF_ERROR(RunEveryOp(device, TypesOf(options)));
  const uint64_t free_bytes = device.memory().free_bytes;
  const uint64_t n_bytes =
      std::max(OpProbe::kMinBytes, std::min(OpProbe::kApartBytes, free_bytes / 4));
  TC_ASSIGN_OR_RETURN(const Buffer region, device.Allocate(n_bytes));
  const std::vector<std::byte> piece(OpProbe::kMinBytes, std::byte{kProbeByte});
  for (uint64_t at = 0; at < n_bytes; at += piece.size()) {
    device.CopyToDevice(piece.data(), region.data() + at,
                        std::min<uint64_t>(piece.size(), n_bytes - at));
  }
  TC_RETURN_IF_ERROR(device.Synchronize());
  TC_ASSIGN_OR_RETURN(OpProbe ops, OpProbe::Create(device, {region.data(), n_bytes}));
  const WeightRate reading{.use = WeightUse::kMatMul, .dtype = DType::kF16, .n_tokens = 1};
  TC_ASSIGN_OR_RETURN(const double rate, ops.BytesPerS(reading, kReadParts * part));
  if (rate > 0) {
    profile->read_bytes_per_s = Figure::Measured(rate);
    profile->read_rates.push_back({options.n_threads, profile->read_bytes_per_s});
  }
  TC_RETURN_IF_ERROR(MeasureBus(device, part, profile));
  return MeasureOps(ops, options, part, profile);
}

Status MeasureHost(kernels::Device& device, const ProfilerOptions& options,
                   WorkerProfile* profile) {
  auto reading = BandwidthProbe::Create(RegionBytes(options));
  if (!reading.ok()) {
    LogWarn("worker", Str("speeds not measured: ", reading.status()));
    return OkStatus();
  }
  profile->huge_pages = HasHugePages(reading->buffer());
  const Duration part = PartOf(options, {.n_reads = ThreadCounts(options.n_threads).size()});
  MeasureReading(*reading, options, part, profile);
  TC_ASSIGN_OR_RETURN(OpProbe ops, OpProbe::Create(device, reading->buffer()));
  return MeasureOps(ops, options, part, profile);
}

// The region is gone: what the process holds from now on is what counts.
void ForgetPeakMemory() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5";  // resets the high-water mark of resident memory: proc(5)
}

}  // namespace

Result<WorkerProfile> MeasureWorker(kernels::Device& device, const ProfilerOptions& options) {
  WorkerProfile profile;
  profile.host = HostName();
  profile.n_threads = options.n_threads;
  profile.memory_bytes = options.memory_bytes;
  const HostTopology host = ReadHostTopology();
  profile.n_cores = host.n_cores;
  profile.n_numa_nodes = host.n_numa_nodes;
  NameGpus(FindGpus(), options.pci_bus_id, device, &profile);
  const Status pinned = RunOn(FirstOf(options.cpus));
  if (!pinned.ok()) LogWarn("worker", Str("measuring on any CPU: ", pinned));
  const Status measured = device.reads_host_memory() ? MeasureHost(device, options, &profile)
                                                     : MeasureApart(device, options, &profile);
  (void)RunOn(options.cpus);
  if (!measured.ok()) return Status(measured).WithContext(Str("measuring ", device.name()));
  ForgetPeakMemory();
  return profile;
}

}  // namespace thermocline::worker
