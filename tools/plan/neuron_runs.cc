#include "tools/plan/neuron_runs.h"

#include <cmath>
#include <numeric>
#include <utility>

#include "base/str.h"
#include "placement/reason_text.h"
#include "tools/table.h"

namespace thermocline::tools {
namespace {

using placement::HelperPlan;
using placement::NeuronRange;
using placement::PlanForecast;
using placement::StagePlan;

// Of a layer of the stage, by member.
std::vector<NeuronRange> HeldIn(const StagePlan& stage, size_t layer, int64_t n_ff) {
  if (!stage.is_split()) return {{0, n_ff}};
  std::vector<NeuronRange> held = {stage.neurons[layer]};
  for (const HelperPlan& helper : stage.helpers) {
    const NeuronRange& own = helper.neurons[layer];
    held.push_back(own.empty() ? NeuronRange{} : own);
  }
  return held;
}

std::string LayersText(const model::LayerRange& layers) {
  return placement::LayersText(layers.begin, layers.end);
}

std::string PercentText(double share) { return Str(std::lround(100 * share), " %"); }

// "8192-28671 (71 %, 17 %)"
std::string CellText(const NeuronRun& run, size_t member, int64_t n_ff) {
  const NeuronRange& held = run.held[member];
  if (held.empty()) return "";
  const double share = static_cast<double>(held.size()) / static_cast<double>(n_ff);
  return Str(held.begin, "-", held.end - 1, " (", PercentText(share), ", ",
             PercentText(run.active[member]), ")");
}

// "12 of 16 layers: 0-10, 13"; neighbouring runs become one.
std::string ActiveLayersText(const std::vector<NeuronRun>& runs, size_t member) {
  std::vector<model::LayerRange> ranges;
  int n_layers = 0, n_active = 0;
  for (const NeuronRun& run : runs) {
    const int n = run.layers.end - run.layers.begin;
    n_layers += n;
    if (run.held[member].empty()) continue;
    n_active += n;
    const bool goes_on = !ranges.empty() && ranges.back().end == run.layers.begin;
    goes_on ? void(ranges.back().end = run.layers.end) : ranges.push_back(run.layers);
  }
  std::string text = Str(n_active, " of ", n_layers, " layers");
  for (size_t i = 0; i < ranges.size(); ++i)
    text += Str(i == 0 ? ": " : ", ", LayersText(ranges[i]));
  return text;
}

// Sums over the layers of a run become shares.
void Normalise(NeuronRun* run) {
  const double sum = std::accumulate(run->active.begin(), run->active.end(), 0.0);
  for (double& active : run->active) active = sum > 0 ? active / sum : 0;
}

// A row for each run, a column for each member; then where helpers take part.
std::string SharedText(const StagePlan& stage, const PlanForecast::Stage& forecast, int64_t n_ff) {
  const std::vector<NeuronRun> runs = NeuronRunsOf(stage, forecast, n_ff);
  Table table({{"layers", Align::kLeft}, {Str("worker ", stage.lead, " (lead)"), Align::kLeft}});
  std::string helping;
  for (size_t m = 1; m < forecast.members.size(); ++m) {
    const std::string worker = Str("worker ", forecast.members[m].worker);
    table.AddColumn({worker, Align::kLeft});
    helping += Str(worker, " helps in ", ActiveLayersText(runs, m), "\n");
  }
  for (const NeuronRun& run : runs) {
    std::vector<std::string> cells = {LayersText(run.layers)};
    for (size_t m = 0; m < run.held.size(); ++m) cells.push_back(CellText(run, m, n_ff));
    table.AddRow(std::move(cells));
  }
  return Str(table.Markdown(), "\n", helping);
}

}  // namespace

std::vector<NeuronRun> NeuronRunsOf(const StagePlan& stage, const PlanForecast::Stage& forecast,
                                    int64_t n_ff) {
  std::vector<NeuronRun> runs;
  for (size_t l = 0; l < forecast.layers.size(); ++l) {
    const int layer = stage.layers.begin + static_cast<int>(l);
    const std::vector<NeuronRange> held = HeldIn(stage, l, n_ff);
    const std::vector<double>& active = forecast.layers[l].active;
    if (runs.empty() || runs.back().held != held) {
      runs.push_back({{layer, layer + 1}, held, active});
      continue;
    }
    runs.back().layers.end = layer + 1;
    for (size_t m = 0; m < active.size(); ++m) runs.back().active[m] += active[m];
  }
  for (NeuronRun& run : runs) Normalise(&run);
  return runs;
}

std::string NeuronRunsText(const placement::PlannedModel& planned, int64_t n_ff) {
  std::string text =
      "neurons of each layer, in heat order where there is a profile (share of all, of those "
      "expected active)\n";
  for (size_t i = 0; i < planned.plan.stages.size(); ++i) {
    const StagePlan& stage = planned.plan.stages[i];
    const int n_layers = stage.layers.end - stage.layers.begin;
    text += stage.is_split()
                ? Str("\nstage ", i, ":\n\n", SharedText(stage, planned.forecast.stages[i], n_ff))
                : Str("\nstage ", i, ", ", n_layers == 1 ? "layer " : "layers ",
                      LayersText(stage.layers), ": worker ", stage.lead, " has all\n");
  }
  return text;
}

}  // namespace thermocline::tools
