// Planning beside the engine: the search for a plan may take a minute, while heartbeats go on.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"
#include "model/config.h"
#include "model/neuron_order.h"
#include "model/sparsity.h"
#include "model/weights.h"
#include "placement/neuron_heat.h"
#include "placement/planner.h"

namespace thermocline::coordinator {

// What every plan of a model is made from.
struct PlanSources {
  const model::ModelConfig& config;
  const model::WeightIndex& weights;
  const model::Sparsity* sparsity = nullptr;        // null: nothing is known
  const std::vector<placement::NeuronHeat>& heats;  // by layer, in the order that workers keep
  const model::NeuronOrder* order = nullptr;        // that order; null: the file's
};

// One plan that is wanted.
struct PlanJob {
  placement::ClusterProfile cluster;  // with a link for every pair
  placement::PlannerOptions options;
  std::string plan_json;          // a hand-written plan instead of a search; "": search
  std::string save_cluster_path;  // the cluster is written there first; "": nowhere, "-": stdout
  bool must_save = true;          // else a file that cannot be written is only told in the log
  uint64_t neuron_order = 0;      // placement::OrderId of the order in which neurons stand now
  // By layer, where they are others than the sources'; the plan's neurons stand by them.
  std::vector<placement::NeuronHeat> heats;
  // A plan to compare with, and the same heats in the order in which its neurons stand.
  std::optional<placement::Plan> rival;
  std::vector<placement::NeuronHeat> rival_heats;
};

struct PlanOutcome {
  placement::Plan plan;  // valid
  bool by_hand = false;
  placement::PlanForecast forecast;  // of the steps that were planned for
  placement::PlanSpeed speed;
  std::optional<placement::PlanSpeed> rival;  // where there still is one
  placement::ClusterProfile cluster;          // that it is for
  // The order that a given plan's tables tell, and the heats in it; none: it has no tables.
  model::NeuronOrder order;
  std::vector<placement::NeuronHeat> heats;
  std::string order_note;  // see placement::OrderNote
  Duration took{0};
};

// A plan that somebody gave, valid, with the order of neurons that it tells, if any.
struct GivenPlan {
  placement::Plan plan;
  model::NeuronOrder order;
  std::string order_note;
};

// That of job.plan_json, completed; the codes of PlanFileFromJson, CompletePlan and OrderIn.
Result<GivenPlan> PlanByHand(const PlanSources& sources, const PlanJob& job);

// The codes of MakePlan and PlanByHand; kUnavailable: the cluster cannot be
// written. Equal inputs give equal plans.
Result<PlanOutcome> PlanFor(const PlanSources& sources, PlanJob job);

// Owns one thread, which makes one plan. Created, asked and destroyed by one thread.
class PlanTask {
 public:
  // Starts at once; the sources outlive it. `on_done` is called on the task's thread once the
  // outcome can be taken.
  PlanTask(const PlanSources& sources, PlanJob job, std::function<void()> on_done);
  // Stops a search under way, which takes no longer than one of its steps: at most seconds.
  ~PlanTask();

  // The outcome, once; nullopt before it is there.
  std::optional<Result<PlanOutcome>> Take();
  // Nobody wants the outcome any more; it comes soon.
  void Stop() { stop_ = true; }

 private:
  std::atomic<bool> stop_{false};
  Mutex mutex_;
  std::optional<Result<PlanOutcome>> outcome_ GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace thermocline::coordinator
