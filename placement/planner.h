// From model, profiles and wishes to a plan: the cost model states the problem, the solver answers
// it, this turns the answer into stages, neurons and reasons.
#pragma once

#include <atomic>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/config.h"
#include "model/sparsity.h"
#include "model/weights.h"
#include "placement/cost_model.h"
#include "placement/neuron_heat.h"
#include "placement/plan.h"
#include "placement/profile.h"
#include "placement/solver/baselines.h"

namespace thermocline::placement {

// What a plan is made for; all of it outlives the call.
struct PlannerInputs {
  const model::ModelConfig& config;
  const model::WeightIndex& weights;
  const model::Sparsity* sparsity = nullptr;  // null: nothing is known
  const std::vector<NeuronHeat>& heats;       // by layer
  const ClusterProfile& cluster;              // with a link for every pair (FillLinks)
};

struct PlannerOptions {
  PlanRequest request;
  // Sequences that decode in one step, with the context they have: what speeds are predicted for.
  int64_t n_sequences = 1;
  int64_t n_context = 0;
  // Streams that decode at the same time, in one step after another; fewer than n_sequences count
  // as so many. Only speeds are for them: plans are compared by the step.
  int64_t n_streams = 1;
  // 1: the latency of one stream; 0: the throughput of many in flight; between: both, weighted.
  double latency_weight = 1;
  SplitPolicy policy = SplitPolicy::kOptimal;
  int max_group = 4;                        // members of a stage, 1 or more
  const std::atomic<bool>* stop = nullptr;  // set: the search ends soon, with kAborted
};

// The same as the cost model asks for it.
CostInputs CostInputsOf(const PlannerInputs& inputs, const PlannerOptions& options);

// What a plan is expected to do. Times are of one step of n_sequences tokens.
struct PlanForecast {
  struct Member {
    WorkerId worker;
    double busy_s = 0;
    uint64_t memory_bytes = 0;  // weights, KV and what it needs for itself
  };
  // Its attention, then the parts of its FFN side by side.
  struct Layer {
    model::FfnMode mode = model::FfnMode::kDense;
    double before_ffn_s = 0;      // of the lead
    double ffn_s = 0;             // until all parts are added up
    double links_s = 0;           // that the links to all helpers and back are taken
    double wait_s = 0;            // of ffn_s, that the lead has nothing to do
    std::vector<double> parts_s;  // computing, by member
    std::vector<uint64_t> bytes;  // held of the layer, by member
    // Neurons expected to be active, by member, and the least that pay for a member's messages.
    std::vector<double> active, least_active;
  };
  struct Stage {
    double seconds = 0;
    double embed_s = 0, head_s = 0;  // of them, at the ends of the model
    std::vector<Member> members;     // the lead, then the plan's helpers
    std::vector<Layer> layers;
  };
  std::vector<Stage> stages;
  double step_s = 0;             // through all stages and links
  double bottleneck_s = 0;       // the busiest worker
  double objective_s = 0;        // what was minimised
  double lower_bound_s = 0;      // of any plan; 0: nobody asked
  double structure_bound_s = 0;  // of these stages with any split
  int64_t n_sequences = 1;
  double gap() const { return objective_s > 0 ? 1 - lower_bound_s / objective_s : 0; }
};

// What streams get of a plan.
struct PlanSpeed {
  int64_t n_streams = 1;
  double one_tokens_per_s = 0;  // of a stream with nobody beside it
  double all_tokens_per_s = 0;  // of n_streams together
};

struct PlannedModel {
  Plan plan;  // valid
  PlanForecast forecast;
  PlanSpeed speed;
};

// The weight of latency that an --objective stands for: latency, throughput, weighted (half and
// half) or the weight itself, 0 to 1. kInvalidArgument for anything else.
Result<double> ParseObjective(std::string_view objective);
// The objective where none is given. One stream wants short steps; several also want every worker
// busy, which a long pipeline of short stages gives, so both count.
std::string_view DefaultObjective(int n_streams);
// Sequences of one step: streams share the steps under way, of which there will be no more than
// workers.
int64_t SequencesPerStep(int n_streams, size_t n_workers);

// kInvalidArgument: no workers, no layers, options out of range, or a pair without a link;
// kResourceExhausted: no plan fits the workers' memory, and by how much.
Result<PlannedModel> MakePlan(const PlannerInputs& inputs, const PlannerOptions& options);

}  // namespace thermocline::placement
