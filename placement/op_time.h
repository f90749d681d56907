// How long the ops of a step take on a worker: its weights through the measured time per byte of
// that op and type, and the overhead of a call. Where that was not measured, the larger of its
// bytes over the bandwidth and its FLOPs over the FLOP rate.
//
// Source of the latter: Williams et al., "Roofline: An Insightful Visual Performance Model",
// CACM 52(4), 2009.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/dtype.h"
#include "placement/op_load.h"
#include "placement/profile.h"
#include "placement/weight_time.h"

namespace thermocline::placement {

// The numbers of one worker that times are predicted from. A number that nobody has measured takes
// the value that stands beside it here.
class WorkerSpeed {
 public:
  // `n_rows`: tokens of the step, which sets how fast products are.
  WorkerSpeed(const WorkerProfile& worker, int64_t n_rows);

  // `density`: the share of the rows that are read, which sets how fast a gather is.
  double OpSeconds(const OpLoad& op, const NeuronShare& share, double density) const;
  double op_overhead_s() const { return op_overhead_s_; }

  // Whatever would take longer takes that long: a cluster file may hold any rate above 0, and sums
  // over ops, blocks and layers have to stay numbers (kMaxSplitSeconds).
  static constexpr double kLongestOpS = 1e4;

  // What a core of a server reads from DDR4 or DDR5 memory; with nothing known, any number will do.
  static constexpr double kAssumedReadBytesPerS = 20e9;
  // Rows with the next one prefetched reached 60 to 70 % of streaming where it was measured.
  static constexpr double kAssumedGatherShare = 0.65;
  // Waking a pool of threads for an op and waiting for the last.
  static constexpr double kAssumedOpOverheadS = 3e-6;

 private:
  // The op as this worker does it, whose neuron rows may be of 8 bits. Where it was measured with
  // weights of the op's type but not with such rows, the op stays: no faster than was measured.
  OpLoad AsHeldHere(OpLoad op) const;
  bool IsMeasuredInRows(const OpLoad& op) const;
  double RooflineSeconds(const OpLoad& op, double bytes, double flops, double density) const;
  std::optional<double> MeasuredSeconds(const OpLoad& op, double bytes, double flops,
                                        double density) const;
  double ComputeSeconds(DType dtype, double n_rows, double flops) const;
  double BytesPerS(double density) const;
  bool HasFlopsOf(DType dtype) const;
  double FlopsPerS(DType dtype, double n_rows) const;  // infinite when unknown

  double read_bytes_per_s_;
  double gather_bytes_per_s_;
  double op_overhead_s_;
  std::vector<ComputeRate> compute_rates_;
  WeightTimeTable weight_times_;
  std::optional<DType> row_type_;  // of neuron rows; none: as they are
  double n_rows_;
};

}  // namespace thermocline::placement
