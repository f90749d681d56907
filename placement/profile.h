// What the cluster is: the numbers of each worker and of the links between them, each with where it
// comes from. Plain data; placement/cluster_yaml.h has its text form.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/ids.h"
#include "base/status.h"
#include "model/neuron_rows.h"

namespace thermocline::placement {

// Where a number comes from; "given": somebody wrote it down.
enum class Origin : uint8_t { kUnknown, kAssumed, kGiven, kMeasured };
std::string_view OriginName(Origin origin);
Result<Origin> ParseOrigin(std::string_view name);

struct Figure {
  double value = 0;
  Origin origin = Origin::kUnknown;

  static Figure Measured(double value) { return {value, Origin::kMeasured}; }
  static Figure Assumed(double value) { return {value, Origin::kAssumed}; }
  bool known() const { return origin != Origin::kUnknown; }
  double value_or(double other) const { return known() ? value : other; }
  friend bool operator==(const Figure&, const Figure&) = default;
};

enum class LinkKind : uint8_t { kMpi, kZmq };
std::string_view LinkKindName(LinkKind kind);
Result<LinkKind> ParseLinkKind(std::string_view name);

// What `n_threads` threads together read from memory, row after row.
struct ReadRate {
  int n_threads = 0;
  Figure bytes_per_s;
  friend bool operator==(const ReadRate&, const ReadRate&) = default;
};

// How fast products of one weight type are computed for a batch of `n_tokens`, from weights that
// lie in a cache. One multiplication and one addition are two FLOPs.
struct ComputeRate {
  DType dtype = DType::kF32;
  int n_tokens = 1;
  Figure flops_per_s;
  friend bool operator==(const ComputeRate&, const ComputeRate&) = default;
};

// What an op does with the rows of weights that it reads.
enum class WeightUse : uint8_t {
  kMatMul,    // a product with each, all of them one after the other
  kNeurons,   // a product with each of a list
  kAxpyRows,  // adds each of a list, times a factor
};
inline constexpr int kNumWeightUses = 3;
std::string_view WeightUseName(WeightUse use);
Result<WeightUse> ParseWeightUse(std::string_view name);

// The share of rows at which gathering is measured: sparse models keep about so many active.
inline constexpr double kGatherShare = 0.1;

// How fast weights of one type that lie in memory go through an op.
struct WeightRate {
  WeightUse use = WeightUse::kMatMul;
  DType dtype = DType::kF32;
  double row_share = 1;  // of the rows are read, here and there
  int n_tokens = 1;      // of the step; of listed rows each is needed by about the root of that
  Figure bytes_per_s;    // of the rows that are read
  friend bool operator==(const WeightRate&, const WeightRate&) = default;
};

// What lies between two GPUs of one host, NVLinks apart; the nearest first.
enum class GpuPath : uint8_t {
  kUnknown,
  kSameBoard,
  kPcieSwitch,    // one PCIe switch
  kPcieSwitches,  // several, and no host bridge
  kHostBridge,    // a host bridge, that is, the CPU
  kNumaNode,      // several host bridges of one NUMA node
  kSystem,        // the way from one NUMA node to another
};
std::string_view GpuPathName(GpuPath path);
Result<GpuPath> ParseGpuPath(std::string_view name);

// No machine has more: a GPU of a larger list was made up.
inline constexpr int kMaxGpus = 64;

// How a GPU reaches another one of its host. Nothing needs to have been measured.
struct GpuPeer {
  int gpu = 0;  // of WorkerProfile::gpus
  GpuPath path = GpuPath::kUnknown;
  int n_nvlinks = 0;   // that lead there, themselves or by switches
  std::string preset;  // that the assumed numbers are of; "" for none
  Figure latency_s;    // as of LinkProfile
  Figure bytes_per_s;
  friend bool operator==(const GpuPeer&, const GpuPeer&) = default;
};

// A GPU of a worker's host. What its driver does not tell is 0, -1 or "".
struct GpuInfo {
  std::string name;            // "NVIDIA H100 80GB HBM3"
  std::string pci_bus_id;      // "00000000:1B:00.0"
  std::string driver;          // its version
  int compute_capability = 0;  // 90 for 9.0
  uint64_t memory_bytes = 0;
  uint64_t free_bytes = 0;
  int pcie_generation = 0;  // the most that GPU and slot can do
  int pcie_lanes = 0;
  int n_nvlinks = 0;  // that are up
  int nvlink_generation = 0;
  int numa_node = -1;         // whose memory is nearest
  std::string cpus;           // "0-31,64-95": those that are nearest
  Figure read_bytes_per_s;    // of its own memory
  Figure upload_bytes_per_s;  // from the host's memory, and back
  Figure download_bytes_per_s;
  Figure copy_s;  // of one value, either way, until it is known to be there
  std::vector<GpuPeer> peers;
  friend bool operator==(const GpuInfo&, const GpuInfo&) = default;
};

struct WorkerProfile {
  WorkerId id;
  std::string host;
  int n_cores = 0;    // of the machine
  int n_threads = 0;  // that compute
  int n_numa_nodes = 0;
  bool huge_pages = false;    // the system gives them for weights
  uint64_t memory_bytes = 0;  // what this worker may use: --memory, else what is free
  Figure read_bytes_per_s;    // sustained, with the threads it will use
  Figure gather_bytes_per_s;  // the same for F16 rows of kGatherShare of the neurons
  Figure op_overhead_s;       // of one op beyond its bytes and FLOPs
  std::vector<ReadRate> read_rates;
  std::vector<ComputeRate> compute_rates;
  std::vector<WeightRate> weight_rates;
  std::vector<GpuInfo> gpus;  // of the host, in the order of their driver
  int gpu = -1;               // of these, the one that it computes on; -1: none, or not known
  // How it holds the rows of its neurons: a GPU may be told to do so in 8 bits.
  model::NeuronRows neuron_rows = model::NeuronRows::kAsIs;
  std::string nccl_version;  // by which its GPU reaches others; "": by way of the hosts
  friend bool operator==(const WorkerProfile&, const WorkerProfile&) = default;
};

// What one message of n bytes from `from` to `to` costs: message_s of the sender's time, and
// latency_s + n / bytes_per_s until it is there.
struct LinkProfile {
  WorkerId from;
  WorkerId to;
  LinkKind transport = LinkKind::kZmq;
  std::string preset;  // that the assumed numbers are of; "" for none
  Figure latency_s;
  Figure bytes_per_s;
  Figure message_s;
  std::string note;  // for people: where assumed numbers come from that are no preset's
  friend bool operator==(const LinkProfile&, const LinkProfile&) = default;
};

struct ClusterProfile {
  std::vector<WorkerProfile> workers;
  std::vector<LinkProfile> links;  // one direction each

  const WorkerProfile* FindWorker(WorkerId id) const;  // nullptr: none
  const LinkProfile* FindLink(WorkerId from, WorkerId to) const;
  // How a worker holds the rows of its neurons; as they are where there is no such worker.
  model::NeuronRows RowsOf(WorkerId id) const;
  friend bool operator==(const ClusterProfile&, const ClusterProfile&) = default;
};

// The worker without what tells equals apart: its id and host, and where in it its GPUs sit.
WorkerProfile WithoutNames(WorkerProfile worker);

// kInvalidArgument names the first worker or link whose numbers are impossible: an id that stands
// twice, a link to nobody or to itself, a peer of a GPU that there is none of, a rate or a latency
// that is negative, zero or no number.
Status ValidateCluster(const ClusterProfile& cluster);

}  // namespace thermocline::placement
