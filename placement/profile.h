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
  friend bool operator==(const ClusterProfile&, const ClusterProfile&) = default;
};

// kInvalidArgument names the first worker or link whose numbers are impossible: an id that stands
// twice, a link to nobody or to itself, a rate or a latency that is negative, zero or no number.
Status ValidateCluster(const ClusterProfile& cluster);

}  // namespace thermocline::placement
