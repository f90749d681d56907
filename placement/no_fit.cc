#include "placement/no_fit.h"

#include <algorithm>
#include <string>

#include "base/str.h"
#include "base/units.h"
#include "placement/cluster_stages.h"
#include "placement/enough_memory.h"
#include "placement/solver/stage_search.h"

namespace thermocline::placement {
namespace {

bool HoldsRowsAsTheyAre(const WorkerProfile& worker) {
  return worker.neuron_rows == NeuronRows::kAsIs;
}

// What rows in 8 bits can take less, on workers that hold them so.
uint64_t MostSaved(const BatchCosts& costs, const model::LayerRange& all) {
  const auto& workers = costs.inputs().cluster.workers;
  uint64_t most = 0;
  for (const WorkerProfile& worker : workers) {
    most = std::max(most, costs.bytes().WholePart(all, worker.neuron_rows).saved);
  }
  return most;
}

// With the --memory that would do, unless there is so much: then the policy is what is in the way.
std::string EnoughText(BatchCosts& costs, int64_t n_pages) {
  const PlannerInputs& inputs = costs.inputs();
  const PlannerOptions& options = costs.options();
  const ClusterStages model(costs, 1, LeastParts::kIgnored, n_pages);
  const size_t n_workers = inputs.cluster.workers.size();
  ClusterProfile other = inputs.cluster;
  const PlannerInputs others{inputs.config, inputs.weights, inputs.sparsity, inputs.heats, other};
  BatchCosts other_costs(others, options, PairWires::Of(options.request, other));
  const StageSearchOptions search{.inner = {.policy = SplitPolicy::kPipelineOnly},
                                  .max_group = 1,
                                  .with_bound = false,
                                  .stop = options.stop};
  const auto fits = [&](uint64_t memory_bytes) {
    for (WorkerProfile& worker : other.workers) worker.memory_bytes = memory_bytes;
    const ClusterStages stages(other_costs, 1, LeastParts::kIgnored, n_pages);
    return SearchStages(stages, search).ok();
  };
  const bool all_as_is =
      std::all_of(inputs.cluster.workers.begin(), inputs.cluster.workers.end(), HoldsRowsAsTheyAre);
  const uint64_t mib =
      EnoughMebibytes(model.bytes(), model.overhead(), model.kv_bytes({0, 1, false, false}),
                      n_workers, all_as_is ? SomeRows::kAsIs : SomeRows::kIn8Bits, fits);
  const bool all_have_it =
      std::all_of(inputs.cluster.workers.begin(), inputs.cluster.workers.end(),
                  [&](const WorkerProfile& worker) { return worker.memory_bytes / kMiB >= mib; });
  if (all_have_it) return "";
  return Str("; --memory ", mib, "M",
             n_workers == 1 ? "" : Str(" of each of ", n_workers, " workers"),
             " is enough (of a --cluster file: `memory: ", mib, "M`)");
}

}  // namespace

Status DoesNotFit(BatchCosts& costs, int64_t n_pages, const Status& why) {
  const PlannerInputs& inputs = costs.inputs();
  const ClusterStages model(costs, 1, LeastParts::kIgnored, n_pages);
  const model::LayerRange all = model.LayersOf(0, model.n_layer());
  const uint64_t held =
      model.bytes().Weights(all) + model.bytes().Relay(all) + model.bytes().Predictors(all);
  const model::LayerRange inner = {0, 1, false, false};
  const uint64_t own = model.overhead().MostOfLead(all, 0) +
                       model.overhead().MostOfLead(inner, 0) * (inputs.cluster.workers.size() - 1);
  const uint64_t saved = MostSaved(costs, all);
  const uint64_t needed = held - saved + model.kv_bytes(all) + own;
  uint64_t offered = 0;
  for (const WorkerProfile& worker : inputs.cluster.workers) {
    if (!AddChecked(offered, worker.memory_bytes, &offered)) offered = UINT64_MAX;
  }
  return ResourceExhausted(Str(
      "model does not fit: ", why.message(), ": weights ", FormatBytes(held),
      saved > 0 ? Str(" - up to ", FormatBytes(saved), " by rows in 8 bits") : "", " + KV for ",
      n_pages * costs.options().request.kv.page_tokens, " tokens ",
      FormatBytes(model.kv_bytes(all)), " + ", FormatBytes(own), " for the workers themselves are ",
      FormatBytes(needed), ", workers offer ", FormatBytes(offered),
      needed > offered ? Str(": ", FormatBytes(needed - offered), " are missing") : "",
      EnoughText(costs, n_pages),
      "; shorter contexts, keys and values in F16, smaller steps or more memory would help"));
}

}  // namespace thermocline::placement
