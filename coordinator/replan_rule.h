// When another plan is worth the pause that changing to it takes.
#pragma once

#include <cstdint>

#include "model/config.h"
#include "model/neuron_order.h"
#include "placement/plan.h"

namespace thermocline::coordinator {

// What speaks for and against a change, for the neurons that are hot now.
struct ReplanCase {
  double now_s = 0;             // what the plan that is served is worth (PlanSpeed::value_s)
  double next_s = 0;            // and the other one
  double step_s = 0;            // of the other one, for each of the tokens below
  uint64_t bytes_to_read = 0;   // by the worker that reads most
  double read_bytes_per_s = 0;  // that loads have reached
  int64_t n_tokens = 0;         // whose keys and values are computed again
};

// A change must save more time within this than it takes: how long hot neurons are expected to stay
// what they are.
inline constexpr double kReplanHorizon_s = 600;
// Less is within the error of the cost model's predictions.
inline constexpr double kLeastGain = 0.05;

// Share of a token's time that is saved; negative when the other plan is slower.
double GainOf(const ReplanCase& facts);
// That streams will wait: loading, then computing keys and values at the speed of decoding, which
// is slower than that of prefill.
double PauseOf(const ReplanCase& facts);
bool IsWorthIt(const ReplanCase& facts);

// A plan and the order in which its neurons stand.
struct OrderedPlan {
  const placement::Plan& plan;
  const model::NeuronOrder& order;
};

// Bytes that the worker with most to read lacks for `next` while it serves `now`.
uint64_t BytesToRead(const OrderedPlan& now, const OrderedPlan& next,
                     const model::ModelConfig& config);

}  // namespace thermocline::coordinator
