// What each operator of a model reads and computes, and how long that takes at the least on a
// machine: the larger of its bytes over the bandwidth and its FLOPs over the FLOP rate.
//
// Source: Williams et al., "Roofline: An Insightful Visual Performance Model", CACM 52(4), 2009.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "model/config.h"
#include "model/ffn_mode.h"
#include "model/sparsity.h"
#include "model/weights.h"
#include "tools/inspect/densities.h"
#include "tools/inspect/machine_rates.h"

namespace thermocline::tools {

// The step whose cost is asked for: `n_tokens` tokens of one sequence that has `n_context` before.
struct StepShape {
  int64_t n_tokens = 1;
  int64_t n_context = 0;
  DType kv_dtype = DType::kF32;
  model::FfnMode ffn = model::FfnMode::kDense;
  const model::Sparsity* sparsity = nullptr;  // of the model; null: nothing is known
  // The share of neurons active for one token, and for all tokens of the step; without layers: all.
  Densities densities;
};

// The ops of one kind and weight, of all layers together.
struct OpCost {
  std::string name;           // "matmul ffn_up", "attention"
  DType dtype = DType::kF32;  // of the weight
  int count = 0;
  double bytes = 0;  // weights, keys and values; activations stay in the caches
  double flops = 0;  // of products; what lies between them is not counted

  // FLOPs per byte; 0 without bytes.
  double intensity() const { return bytes > 0 ? flops / bytes : 0; }
};

struct StepCost {
  int64_t n_tokens = 1;
  std::vector<OpCost> ops;  // in the order of the graph
  double bytes() const;
  double flops() const;
};

// Walks the graphs that the executor runs: embedding, every layer, and the head for the last token.
// Weights count as a worker holds them (model::HeldAs).
StepCost CostOf(const model::ModelConfig& config, const model::WeightIndex& weights,
                const StepShape& shape);

enum class Bound : uint8_t { kNothing, kMemory, kCompute };
const char* BoundName(Bound bound);

struct Prediction {
  Bound bound = Bound::kNothing;
  double seconds = 0;
};
// Decode rates for one token, those of a prompt for more.
Prediction PredictOp(const OpCost& op, int64_t n_tokens, const MachineRates& rates);
double PredictSeconds(const StepCost& cost, const MachineRates& rates);

}  // namespace thermocline::tools
