#include "placement/cut_reason.h"

#include <atomic>
#include <cmath>
#include <utility>
#include <vector>

#include "base/str.h"
#include "base/units.h"
#include "placement/forecast.h"
#include "placement/micro_batches.h"
#include "placement/reason_text.h"
#include "placement/share_heads.h"

namespace thermocline::placement {
namespace {

using Neurons = std::vector<NeuronRange>;  // by layer of a stage

size_t LayersOf(const StagePlan& stage) {
  return static_cast<size_t>(stage.layers.end - stage.layers.begin);
}

void Append(const Neurons& more, Neurons* neurons) {
  neurons->insert(neurons->end(), more.begin(), more.end());
}

// As JoinedStage has it, without bytes.
StagePlan Join(const StagePlan& first, const StagePlan& second, WorkerId lead, int64_t n_ff) {
  StagePlan both{.lead = lead,
                 .layers = {first.layers.begin, second.layers.end, first.layers.has_embed,
                            second.layers.has_head}};
  const Neurons none_of_first(LayersOf(first)), none_of_second(LayersOf(second));
  for (const HelperPlan& helper : first.helpers) {
    both.helpers.push_back({.worker = helper.worker, .neurons = helper.neurons});
    Append(none_of_second, &both.helpers.back().neurons);
  }
  for (const HelperPlan& helper : second.helpers) {
    both.helpers.push_back({.worker = helper.worker, .neurons = none_of_first});
    Append(helper.neurons, &both.helpers.back().neurons);
  }
  if (!both.is_split()) return both;
  for (const StagePlan* stage : {&first, &second}) {
    Append(stage->is_split() ? stage->neurons : Neurons(LayersOf(*stage), {0, n_ff}),
           &both.neurons);
  }
  return both;
}

// The first `n` layers of a stage, or the last.
enum class End : uint8_t { kFirst, kLast };
StagePlan Cropped(StagePlan stage, size_t n, End end) {
  const size_t from = end == End::kFirst ? 0 : LayersOf(stage) - n;
  const auto crop = [&](Neurons& neurons) {
    const auto begin = neurons.begin() + static_cast<ptrdiff_t>(from);
    neurons = Neurons(begin, begin + static_cast<ptrdiff_t>(n));
  };
  if (stage.is_split()) crop(stage.neurons);
  for (HelperPlan& helper : stage.helpers) crop(helper.neurons);
  model::LayerRange& layers = stage.layers;
  const bool is_whole = n == LayersOf(stage);
  if (end == End::kFirst) {
    layers.has_head = layers.has_head && is_whole;
    layers.end = layers.begin + static_cast<int>(n);
  } else {
    layers.has_embed = layers.has_embed && is_whole;
    layers.begin = layers.end - static_cast<int>(n);
  }
  return stage;
}

// What a stage takes of its lead's memory, with all heads.
uint64_t LeadNeeds(const StagePlan& stage, const KvBudget& kv, const BatchCosts& costs) {
  const PlannerInputs& inputs = costs.inputs();
  const WorkerProfile& lead = *inputs.cluster.FindWorker(stage.lead);
  const NeuronRows rows = lead.neuron_rows;
  const PartBytes bytes = stage.is_split()
                              ? costs.bytes().LeadPart(stage.layers, stage.neurons, rows)
                              : costs.bytes().WholePart(stage.layers, rows);
  return bytes.sum() + costs.overhead().OfLead(stage, HolderOf(lead)) +
         KvBytes(inputs.config, kv, stage.layers, {0, inputs.config.n_head_kv});
}

// More layers need no less.
int RoomFor(const StagePlan& both, End end, uint64_t memory_bytes, const KvBudget& kv,
            const BatchCosts& costs) {
  size_t fits = 0, too_many = LayersOf(both) + 1;
  while (fits + 1 < too_many) {
    const size_t n = (fits + too_many) / 2;
    const bool has_room = LeadNeeds(Cropped(both, n, end), kv, costs) <= memory_bytes;
    (has_room ? fits : too_many) = n;
  }
  return static_cast<int>(fits);
}

// The plan with `both` in place of stages i and i + 1, as the planner would have completed it.
Result<PlannedModel> WithOneStage(Plan plan, size_t i, StagePlan both, BatchCosts& costs) {
  const bool shares_heads = SharesHeads(plan);
  plan.stages[i] = std::move(both);
  plan.stages.erase(plan.stages.begin() + static_cast<ptrdiff_t>(i) + 1);
  const PlannerInputs& inputs = costs.inputs();
  PlannedModel planned;
  TC_ASSIGN_OR_RETURN(planned.plan, CompletePlan(std::move(plan), inputs.config, inputs.weights,
                                                 inputs.cluster, costs.options().request));
  TC_ASSIGN_OR_RETURN(planned.plan.micro_batches, ChooseMicroBatches(planned.plan, costs));
  TC_ASSIGN_OR_RETURN(planned.speed, SpeedOf(planned.plan, costs));
  if (shares_heads) ShareHeadsOf(costs, i, &planned);
  return planned;
}

Result<JoinedStage> JoinAt(const Plan& plan, size_t i, End end, BatchCosts& costs) {
  const StagePlan &first = plan.stages[i], &second = plan.stages[i + 1];
  const PlannerInputs& inputs = costs.inputs();
  const WorkerId lead = end == End::kFirst ? first.lead : second.lead;
  const StagePlan both = Join(first, second, lead, inputs.config.n_ff);
  JoinedStage joined{.lead = lead,
                     .needed_bytes = LeadNeeds(both, plan.kv, costs),
                     .memory_bytes = inputs.cluster.FindWorker(lead)->memory_bytes};
  joined.n_room = RoomFor(both, end, joined.memory_bytes, plan.kv, costs);
  if (!joined.has_room()) return joined;
  const auto planned = WithOneStage(plan, i, both, costs);
  // A helper has tables for more layers then, and there may be too many helpers.
  if (planned.status().code() == StatusCode::kInvalidArgument) return joined;
  if (!planned.ok()) return planned.status();
  joined.speed = planned->speed;
  return joined;
}

std::string SavesText(double saved_s) {
  return Str(saved_s < 0 ? "costs " : "saves ", MillisecondsText(std::abs(saved_s)));
}

// What streams wait for more where the stages are one.
std::string GainText(const PlanSpeed& joined, const PlanSpeed& cut) {
  const std::string of_one =
      SavesText(1 / joined.one_tokens_per_s - 1 / cut.one_tokens_per_s) + " of a token";
  if (cut.n_streams == 1) return of_one;
  const auto n = static_cast<double>(cut.n_streams);
  return Str(SavesText(n / joined.all_tokens_per_s - n / cut.all_tokens_per_s), " of a round of ",
             cut.n_streams, " streams, ", of_one, " of one");
}

// "room for 18 of both stages' 32 layers (all take 3.4 GiB, 1.4 GiB more than it may use)"
std::string RoomText(const JoinedStage& joined, int n_layers) {
  if (joined.has_room()) return "room for all layers, but their helpers lack it";
  return Str("room for ", joined.n_room, " of both stages' ", n_layers, " layers (all take ",
             FormatBytes(joined.needed_bytes), ", ",
             FormatBytes(joined.needed_bytes - joined.memory_bytes), " more than it may use)");
}

// Of the leads that cannot take both stages; "" of none.
std::string RoomsText(const CutWorth& cut) {
  const auto& [first, second] = cut.joined;
  const std::string of_first = first.speed ? "" : RoomText(first, cut.n_layers);
  const std::string of_second = second.speed ? "" : RoomText(second, cut.n_layers);
  if (of_first == of_second) return of_first.empty() ? "" : Str("either lead has ", of_first);
  std::string text;
  if (!first.speed) text = Str("worker ", first.lead, " has ", of_first);
  if (!second.speed) {
    text += Str(text.empty() ? "" : "; ", "worker ", second.lead, " has ", of_second);
  }
  return text;
}

std::string HopText(const CutWorth& cut) {
  return Str(MillisecondsText(cut.hop_s), " that its hop takes (", FormatBytes(cut.hop_bytes),
             " for a step of ", cut.n_sequences,
             cut.n_sequences == 1 ? " sequence)" : " sequences)");
}

}  // namespace

const JoinedStage* CutWorth::best() const {
  const JoinedStage* best = nullptr;
  for (const JoinedStage& one : joined) {
    if (!one.speed) continue;
    if (best == nullptr || one.speed->value_s < best->speed->value_s) best = &one;
  }
  return best;
}

Result<CutWorth> WeighCut(const Plan& plan, size_t i, BatchCosts& costs) {
  const StagePlan &first = plan.stages[i], &second = plan.stages[i + 1];
  CutWorth cut{.n_layers = second.layers.end - first.layers.begin,
               .n_kv_tokens = plan.kv.n_tokens(),
               .has_helpers = first.is_split() || second.is_split(),
               .n_sequences = SequencesOfBatch(plan, StreamsOf(costs.options()))};
  cut.hop_bytes = ActivationBytes(plan.WayOf(first.to_next).wire, cut.n_sequences,
                                  costs.inputs().config.n_embd);
  cut.hop_s = costs.Of(cut.n_sequences).HopSeconds(first.lead, second.lead);
  TC_ASSIGN_OR_RETURN(cut.joined[0], JoinAt(plan, i, End::kFirst, costs));
  TC_ASSIGN_OR_RETURN(cut.joined[1], JoinAt(plan, i, End::kLast, costs));
  return cut;
}

std::string CutText(const CutWorth& cut, const PlanSpeed& speed) {
  const char* const helpers = cut.has_helpers ? ", helpers as they are" : "";
  const std::string no_room = RoomsText(cut);
  const JoinedStage* const best = cut.best();
  if (best == nullptr) {
    return Str("the cut after it is for memory, with KV for ", cut.n_kv_tokens, " tokens", helpers,
               ", and costs the ", HopText(cut), ": ", no_room);
  }
  return Str("the cut after it ", GainText(*best->speed, speed), ", net of the ", HopText(cut),
             ", against one stage of both led by worker ", best->lead, helpers,
             no_room.empty() ? "" : Str("; ", no_room));
}

void TellCuts(BatchCosts& costs, PlannedModel* planned) {
  const std::atomic<bool>* const stop = costs.options().stop;
  Plan& plan = planned->plan;
  for (size_t i = 0; i + 1 < plan.stages.size() && (stop == nullptr || !*stop); ++i) {
    const auto cut = WeighCut(plan, i, costs);
    if (cut.ok()) plan.stages[i].reason += Str("; ", CutText(*cut, planned->speed));
  }
}

}  // namespace thermocline::placement
