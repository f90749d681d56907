#include "placement/stage_plan.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/str.h"
#include "base/units.h"
#include "placement/reason_text.h"

namespace thermocline::placement {
namespace {

int Percent(double share) { return static_cast<int>(std::lround(100 * share)); }

// What the layer would take longer if the lead had the blocks of device d, which it spares
// `spared_s`.
double SavedSeconds(const SplitProblem& problem, const SplitLayer& layer, const LayerSplit& ranges,
                    size_t d, double spared_s) {
  LayerSplit without = ranges;
  without[d] = {};
  const double part_s = without[0].empty() ? problem.devices[0].part_s : 0;
  const double lead_s = BusySeconds(problem, layer, without, 0) - layer.fixed_s + part_s + spared_s;
  return std::max(FfnSeconds(problem, layer, without), lead_s) - FfnSeconds(problem, layer, ranges);
}

// What speaks for a helper: memory that the lead alone lacks, a shorter step, or a lead that is
// less busy, which then serves other steps meanwhile.
std::string GainText(uint64_t lacking_bytes, double saved_s, double spared_s, double links_s) {
  const std::string lack =
      lacking_bytes == 0 ? "" : Str("the lead alone lacks ", FormatBytes(lacking_bytes));
  if (saved_s > 0) {
    return Str(lack, lack.empty() ? "" : "; ", "saves ", MillisecondsText(saved_s),
               " of a step, net of the ", MillisecondsText(links_s), " that its links take");
  }
  if (!lack.empty()) return Str(lack, "; its links take ", MillisecondsText(links_s), " of a step");
  return Str("a step is ", MillisecondsText(-saved_s), " longer, but its lead free of ",
             MillisecondsText(spared_s), " of it for others");
}

std::string HelperReason(const StageChoice& choice, const SplitProblem& problem, size_t d,
                         uint64_t lacking_bytes) {
  double saved = 0, spared = 0, blocks = 0, all_blocks = 0, links = 0, work = 0, all_work = 0;
  int n_layers = 0;
  for (size_t l = 0; l < problem.layers.size(); ++l) {
    const SplitLayer& layer = problem.layers[l];
    const BlockRange& range = choice.solution.split[l][d];
    all_blocks += layer.n_blocks();
    all_work += layer.seconds[0].back();
    if (range.empty()) continue;
    const auto& lead = layer.seconds[0];
    const double of_lead = lead[size_t(range.end)] - lead[size_t(range.begin)];
    work += of_lead;
    blocks += range.size();
    saved += SavedSeconds(problem, layer, choice.solution.split[l], d, of_lead);
    const SplitDevice& device = problem.devices[d];
    spared += of_lead - device.send_busy_s - device.merge_s;
    links += device.send_s + device.round_trip_s + device.merge_s;
    ++n_layers;
  }
  return Str(Percent(blocks / std::max(all_blocks, 1.0)), " % of the neurons and ",
             Percent(work / std::max(all_work, 1e-30)), " % of what a token reads of them, in ",
             n_layers, n_layers == 1 ? " layer" : " layers", ": ",
             GainText(lacking_bytes, saved, spared, links));
}

std::string StageReason(const StageChoice& choice, const model::LayerRange& layers, int n_layer) {
  std::string reason = Str(layers.end - layers.begin, " of ", n_layer, " layers in ",
                           MillisecondsText(choice.solution.cost.seconds));
  if (choice.group.size() > 1) {
    reason += Str(", neurons shared with ", choice.group.size() - 1,
                  choice.group.size() == 2 ? " helper" : " helpers");
  }
  return reason;
}

// A lead has at least one block of every layer: it takes one from a helper whose part stays large
// enough without it, or else from the last.
void GiveLeadABlock(const SplitLayer& layer, LayerSplit* ranges) {
  if (!(*ranges)[0].empty()) return;
  int giver = 0;
  for (int d = 1; d < static_cast<int>(ranges->size()); ++d) {
    const BlockRange& range = (*ranges)[static_cast<size_t>(d)];
    if (range.empty()) continue;
    giver = d;
    if (range.size() > 1 && layer.HasLeastPart(d, {range.begin, range.end - 1})) break;
  }
  BlockRange& range = (*ranges)[static_cast<size_t>(giver)];
  (*ranges)[0] = {range.end - 1, range.end};
  --range.end;
}

}  // namespace

StagePlan ToStage(const StageChoice& choice, const ClusterStages& model) {
  const CostModel& costs = model.costs();
  const model::LayerRange layers = model.LayersOf(choice.begin, choice.end);
  const WorkerProfile& lead = model.WorkerAt(choice.group.front());
  StagePlan stage{.lead = lead.id, .layers = layers};
  stage.reason = StageReason(choice, layers, model.n_layer());
  PartBytes bytes = model.bytes().WholePart(layers, lead.neuron_rows);
  if (choice.group.size() > 1) {
    Split split = choice.solution.split;
    const auto problem = model.Problem(choice.begin, choice.end, choice.group);
    const uint64_t alone = bytes.sum() + model.kv_bytes(layers) +
                           model.overhead().MostOfLead(layers, 0, HolderOf(lead));
    for (size_t l = 0; l < split.size(); ++l) GiveLeadABlock(problem->layers[l], &split[l]);
    for (const LayerSplit& ranges : split) stage.neurons.push_back(costs.NeuronsOf(ranges[0]));
    bytes = model.bytes().LeadPart(layers, stage.neurons, lead.neuron_rows);
    for (size_t d = 1; d < choice.group.size(); ++d) {
      HelperPlan& helper = stage.helpers.emplace_back();
      const WorkerProfile& worker = model.WorkerAt(choice.group[d]);
      helper.worker = worker.id;
      for (const LayerSplit& ranges : split) helper.neurons.push_back(costs.NeuronsOf(ranges[d]));
      helper.bytes = model.bytes().HelperPart(layers, helper.neurons, worker.neuron_rows);
      helper.reason = HelperReason(choice, *problem, d, alone - std::min(alone, lead.memory_bytes));
    }
  }
  stage.weights_bytes = bytes.weights;
  stage.relay_bytes = bytes.relay;
  stage.predictor_bytes = bytes.predictors;
  stage.saved_bytes = bytes.saved;
  return stage;
}

}  // namespace thermocline::placement
