#include "placement/op_time.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace thermocline::placement {
namespace {

// The share of rows at which gather_bytes_per_s was measured.
constexpr double kGatherDensity = 0.1;

}  // namespace

WorkerSpeed::WorkerSpeed(const WorkerProfile& worker, int64_t n_rows)
    : read_bytes_per_s_(worker.read_bytes_per_s.value_or(kAssumedReadBytesPerS)),
      gather_bytes_per_s_(
          worker.gather_bytes_per_s.value_or(kAssumedGatherShare * read_bytes_per_s_)),
      op_overhead_s_(std::min(kLongestOpS, worker.op_overhead_s.value_or(kAssumedOpOverheadS))),
      compute_rates_(worker.compute_rates),
      n_rows_(static_cast<double>(n_rows)) {}

// From the rate of a gather to that of a stream as more of the rows are read. Times per byte, not
// rates, mix linearly.
double WorkerSpeed::BytesPerS(double density) const {
  const double streamed = std::clamp((density - kGatherDensity) / (1 - kGatherDensity), 0.0, 1.0);
  return 1 / (streamed / read_bytes_per_s_ + (1 - streamed) / gather_bytes_per_s_);
}

// Between two measured batches the rate is taken to change with the logarithm of their size.
double WorkerSpeed::FlopsPerS(DType dtype) const {
  const ComputeRate* below = nullptr;
  const ComputeRate* above = nullptr;
  for (const ComputeRate& rate : compute_rates_) {
    if (rate.dtype != dtype || !rate.flops_per_s.known()) continue;
    const bool is_below = rate.n_tokens <= n_rows_;
    const ComputeRate*& nearest = is_below ? below : above;
    const bool nearer = nearest == nullptr || (is_below ? rate.n_tokens > nearest->n_tokens
                                                        : rate.n_tokens < nearest->n_tokens);
    if (nearer) nearest = &rate;
  }
  if (below == nullptr && above == nullptr) return std::numeric_limits<double>::infinity();
  if (below == nullptr) return above->flops_per_s.value;
  if (above == nullptr) return below->flops_per_s.value;
  const double share = std::log(n_rows_ / below->n_tokens) /
                       std::log(static_cast<double>(above->n_tokens) / below->n_tokens);
  return below->flops_per_s.value + share * (above->flops_per_s.value - below->flops_per_s.value);
}

double WorkerSpeed::OpSeconds(const OpLoad& op, const NeuronShare& share, double density) const {
  const double bytes = op.Bytes(share);
  const double memory = bytes / (op.gathers() ? BytesPerS(density) : read_bytes_per_s_);
  const double flops = op.Flops(share);
  const double compute = flops > 0 ? flops / FlopsPerS(op.dtype) : 0;
  return std::min(kLongestOpS, std::max(memory, compute) + op_overhead_s_);
}

}  // namespace thermocline::placement
