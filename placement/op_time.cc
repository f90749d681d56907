#include "placement/op_time.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace thermocline::placement {
namespace {

// What an op does with its weights; none of those that read only what lies in the caches.
std::optional<WeightUse> UseOf(model::OpKind kind) {
  switch (kind) {
    case model::OpKind::kMatMul:
    case model::OpKind::kAttention:  // query heads are the tokens of the keys they share
      return WeightUse::kMatMul;
    case model::OpKind::kNeurons:
      return WeightUse::kNeurons;
    case model::OpKind::kAxpyRows:
      return WeightUse::kAxpyRows;
    default:
      return std::nullopt;
  }
}

// Of a product of one token with weights of this type.
double FlopsPerByte(DType dtype) {
  return 2.0 * Traits(dtype).block_elems / Traits(dtype).block_bytes;
}

}  // namespace

WorkerSpeed::WorkerSpeed(const WorkerProfile& worker, int64_t n_rows)
    : read_bytes_per_s_(worker.read_bytes_per_s.value_or(kAssumedReadBytesPerS)),
      gather_bytes_per_s_(
          worker.gather_bytes_per_s.value_or(kAssumedGatherShare * read_bytes_per_s_)),
      op_overhead_s_(std::min(kLongestOpS, worker.op_overhead_s.value_or(kAssumedOpOverheadS))),
      compute_rates_(worker.compute_rates),
      weight_times_(worker),
      row_type_(model::Fp8TypeOf(worker.neuron_rows)),
      n_rows_(static_cast<double>(n_rows)) {}

// From the rate of a gather to that of a stream as more of the rows are read. Times per byte, not
// rates, mix linearly.
double WorkerSpeed::BytesPerS(double density) const {
  const double streamed = std::clamp((density - kGatherShare) / (1 - kGatherShare), 0.0, 1.0);
  return 1 / (streamed / read_bytes_per_s_ + (1 - streamed) / gather_bytes_per_s_);
}

bool WorkerSpeed::HasFlopsOf(DType dtype) const {
  return std::any_of(compute_rates_.begin(), compute_rates_.end(), [&](const ComputeRate& rate) {
    return rate.dtype == dtype && rate.flops_per_s.known();
  });
}

// Between two measured batches the rate is taken to change with the logarithm of their size.
double WorkerSpeed::FlopsPerS(DType dtype, double n_rows) const {
  const ComputeRate* below = nullptr;
  const ComputeRate* above = nullptr;
  for (const ComputeRate& rate : compute_rates_) {
    if (rate.dtype != dtype || !rate.flops_per_s.known()) continue;
    const bool is_below = rate.n_tokens <= n_rows;
    const ComputeRate*& nearest = is_below ? below : above;
    const bool nearer = nearest == nullptr || (is_below ? rate.n_tokens > nearest->n_tokens
                                                        : rate.n_tokens < nearest->n_tokens);
    if (nearer) nearest = &rate;
  }
  if (below == nullptr && above == nullptr) return std::numeric_limits<double>::infinity();
  if (below == nullptr) return above->flops_per_s.value;
  if (above == nullptr) return below->flops_per_s.value;
  const double share = std::log(n_rows / below->n_tokens) /
                       std::log(static_cast<double>(above->n_tokens) / below->n_tokens);
  return below->flops_per_s.value + share * (above->flops_per_s.value - below->flops_per_s.value);
}

double WorkerSpeed::ComputeSeconds(DType dtype, double n_rows, double flops) const {
  return flops > 0 ? flops / FlopsPerS(dtype, n_rows) : 0;
}

double WorkerSpeed::RooflineSeconds(const OpLoad& op, double bytes, double flops,
                                    double density) const {
  const double memory = bytes / (op.gathers() ? BytesPerS(density) : read_bytes_per_s_);
  return std::max(memory, ComputeSeconds(op.dtype, n_rows_, flops));
}

// Beyond the tokens that were measured a product of all rows costs what the caches' FLOP rates add.
std::optional<double> WorkerSpeed::MeasuredSeconds(const OpLoad& op, double bytes, double flops,
                                                   double density) const {
  const auto use = UseOf(op.kind);
  if (!use || !(bytes > 0)) return std::nullopt;
  const WeightTimes& times = weight_times_.Of(*use, op.dtype);
  if (!times.known()) return std::nullopt;
  if (op.gathers()) return bytes * times.SecondsPerByte(density, n_rows_);
  const double n_tokens = flops / (bytes * FlopsPerByte(op.dtype));
  const double most = std::min(n_tokens, times.max_tokens());
  const double further = ComputeSeconds(op.dtype, n_tokens, flops) -
                         ComputeSeconds(op.dtype, most, flops * most / n_tokens);
  return bytes * times.SecondsPerByte(1, most) + std::max(0.0, further);
}

// An unknown FLOP rate is infinite, and an unknown rate of weights that of plain reading: either
// would make rows of 8 bits faster than what they are compared with.
bool WorkerSpeed::IsMeasuredInRows(const OpLoad& op) const {
  if (HasFlopsOf(op.dtype) && !HasFlopsOf(*row_type_)) return false;
  const auto use = UseOf(op.kind);
  return !use || !weight_times_.Of(*use, op.dtype).known() ||
         weight_times_.Of(*use, *row_type_).known();
}

OpLoad WorkerSpeed::AsHeldHere(OpLoad op) const {
  if (!row_type_ || op.narrow_share >= 1 || !IsMeasuredInRows(op)) return op;
  op.dtype = *row_type_;
  for (double* const bytes :
       {&op.bytes, &op.bytes_per_neuron, &op.bytes_per_selected, &op.bytes_per_active}) {
    *bytes *= op.narrow_share;
  }
  return op;
}

double WorkerSpeed::OpSeconds(const OpLoad& as_is, const NeuronShare& share, double density) const {
  const OpLoad op = AsHeldHere(as_is);
  const double bytes = op.Bytes(share);
  const double flops = op.Flops(share);
  const auto measured = MeasuredSeconds(op, bytes, flops, density);
  const double seconds = measured.value_or(RooflineSeconds(op, bytes, flops, density));
  return std::min(kLongestOpS, seconds + op_overhead_s_);
}

}  // namespace thermocline::placement
