// From model, profiles and wishes to a plan: the cost model states the problem, the solver answers
// it, this turns the answer into stages, neurons and reasons.
#pragma once

#include <atomic>
#include <functional>
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

// What streams get of a plan, and what it is worth by that.
struct PlanSpeed {
  int64_t n_streams = 1;        // that are counted
  int64_t n_streams_asked = 1;  // more where a given plan's KV does not hold them
  int64_t n_streams_held = 1;   // of those asked for, by its KV
  double one_tokens_per_s = 0;  // of a stream with nobody beside it
  double all_tokens_per_s = 0;  // of n_streams together
  // What plans are compared by, the less the better: seconds of a token, by the weight of latency
  // of a stream alone and otherwise of all together.
  double value_s = 0;
  // Of the value of any plan whose attention is its leads'; 0: nobody asked, this plan shares
  // heads, or its steps take hours.
  double lower_bound_s = 0;
  double gap() const { return value_s > 0 ? 1 - lower_bound_s / value_s : 0; }
};

struct PlannerOptions {
  PlanRequest request;
  // Streams that decode at the same time, with the context they have: what plans are made for.
  int64_t n_streams = 1;
  int64_t n_context = 0;
  // Of the step that a forecast tells, which plans do not depend on; 0: as many as a batch of the
  // plan has of the streams.
  int64_t n_sequences = 0;
  // 1: the latency of one stream; 0: the throughput of all; between: both, weighted.
  double latency_weight = 1;
  bool with_bound = true;  // tell how much better another plan can be; takes as long as the search
  SplitPolicy policy = SplitPolicy::kOptimal;
  int max_group = 4;  // members of stages that are tried in all combinations, 1 or more
  const std::atomic<bool>* stop = nullptr;  // set: the search ends soon, with kAborted
  // Told what every plan that the search finds is worth, by two threads at once; null: nobody.
  std::function<void(const PlanSpeed&)> on_found = nullptr;
};

// The same as the cost model asks for it, for steps of so many sequences.
CostInputs CostInputsOf(const PlannerInputs& inputs, const PlannerOptions& options,
                        int64_t n_sequences);

// What a plan is expected to do in one step of n_sequences tokens.
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
  double step_s = 0;  // through all stages and links
  // The busiest worker; or host, where its workers have more threads than it has cores.
  double bottleneck_s = 0;
  int64_t n_sequences = 1;
};

// Whether members of a stage share heads of its attention, of which bounds know nothing.
bool SharesHeads(const Plan& plan);

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

// kInvalidArgument: no workers, no layers, options out of range, or a pair without a link;
// kResourceExhausted: no plan fits the workers' memory, and by how much.
Result<PlannedModel> MakePlan(const PlannerInputs& inputs, const PlannerOptions& options);

}  // namespace thermocline::placement
