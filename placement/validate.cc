// The rules of a plan, one function each; the first that is broken is named with its numbers.
#include <algorithm>
#include <set>

#include "base/str.h"
#include "placement/context.h"
#include "placement/model_bytes.h"
#include "placement/overhead.h"
#include "placement/plan.h"
#include "placement/plan_links.h"

namespace thermocline::placement {
namespace {

std::string StageName(const Plan& plan, size_t i) {
  const StagePlan& stage = plan.stages[i];
  return Str("stage ", i, " (worker ", stage.lead, ", layers ", stage.layers.begin, "-",
             stage.layers.end, ")");
}

const WorkerProfile* FindWorker(const ClusterProfile& cluster, WorkerId id) {
  for (const WorkerProfile& worker : cluster.workers) {
    if (worker.id == id) return &worker;
  }
  return nullptr;
}

Status CheckLayers(const Plan& plan, const model::ModelConfig& config) {
  if (plan.n_layer != config.n_layer) {
    return InvalidArgument(Str("plan is for another model:", Kv("plan_n_layer", plan.n_layer),
                               Kv("model_n_layer", config.n_layer)));
  }
  if (plan.stages.empty()) return InvalidArgument("plan has no stages");
  int next = 0;
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const model::LayerRange& layers = plan.stages[i].layers;
    if (layers.begin >= layers.end) {
      return InvalidArgument(Str(StageName(plan, i), " has no layers"));
    }
    if (layers.begin != next) {
      return InvalidArgument(Str(StageName(plan, i),
                                 " does not begin where the layers before it end:",
                                 Kv("begin", layers.begin), Kv("wanted", next)));
    }
    next = layers.end;
  }
  if (next == config.n_layer) return OkStatus();
  return InvalidArgument(Str("stages do not end with the last layer:", Kv("end", next),
                             Kv("n_layer", config.n_layer)));
}

Status CheckEnds(const Plan& plan) {
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const model::LayerRange& layers = plan.stages[i].layers;
    if (layers.has_embed != (i == 0)) {
      return InvalidArgument(Str("the first stage and no other holds the embedding: ",
                                 StageName(plan, i), Kv("has_embed", layers.has_embed)));
    }
    if (layers.has_head != (i + 1 == plan.stages.size())) {
      return InvalidArgument(Str("the last stage and no other holds the head: ", StageName(plan, i),
                                 Kv("has_head", layers.has_head)));
    }
  }
  return OkStatus();
}

// "1,2,5"
std::string IdsOf(const ClusterProfile& cluster) {
  std::string ids;
  for (const WorkerProfile& worker : cluster.workers) ids += Str(ids.empty() ? "" : ",", worker.id);
  return ids;
}

Status CheckLeads(const Plan& plan, const ClusterProfile& cluster) {
  std::set<WorkerId> leads;
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const WorkerId lead = plan.stages[i].lead;
    if (FindWorker(cluster, lead) == nullptr) {
      return InvalidArgument(Str(
          StageName(plan, i), " is led by a worker that is not in the cluster:", Kv("lead", lead),
          Kv("workers", IdsOf(cluster))));
    }
    if (!leads.insert(lead).second) {
      return InvalidArgument(
          Str("worker leads two stages: the second is ", StageName(plan, i), Kv("lead", lead)));
    }
  }
  return OkStatus();
}

// Every worker has one place in a plan: two would wait for each other's layers.
Status CheckHelpers(const Plan& plan, const ClusterProfile& cluster) {
  std::set<WorkerId> taken;
  for (const StagePlan& stage : plan.stages) taken.insert(stage.lead);
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    for (const HelperPlan& helper : plan.stages[i].helpers) {
      if (FindWorker(cluster, helper.worker) == nullptr) {
        return InvalidArgument(Str(StageName(plan, i), " has a helper that is not in the cluster:",
                                   Kv("worker", helper.worker), Kv("workers", IdsOf(cluster))));
      }
      if (taken.insert(helper.worker).second) continue;
      return InvalidArgument(Str("worker has two places in the plan: the second is as a helper of ",
                                 StageName(plan, i), Kv("worker", helper.worker)));
    }
  }
  return OkStatus();
}

// The ranges of one layer's members within 0 .. n_ff, which must be all of it, each neuron once.
Status CheckNeuronsOfLayer(std::vector<NeuronRange> ranges, int64_t n_ff,
                           const std::string& where) {
  std::erase_if(ranges, [](const NeuronRange& range) { return range.empty(); });
  std::sort(ranges.begin(), ranges.end(),
            [](const NeuronRange& a, const NeuronRange& b) { return a.begin < b.begin; });
  int64_t next = 0;
  for (const NeuronRange& range : ranges) {
    if (range.begin != next) {
      return InvalidArgument(
          Str(where, ": neurons are placed ",
              range.begin > next ? "nowhere:" : "twice:", Kv("from", std::min(next, range.begin)),
              Kv("to", std::max(next, range.begin)), Kv("n_ff", n_ff)));
    }
    next = range.end;
  }
  if (next == n_ff) return OkStatus();
  return InvalidArgument(
      Str(where, ": neurons end elsewhere than the layer:", Kv("end", next), Kv("n_ff", n_ff)));
}

std::string HelperName(const Plan& plan, size_t i, const HelperPlan& helper) {
  return Str("helper ", helper.worker, " of ", StageName(plan, i));
}

// One range for each layer, of neurons that it has.
Status CheckRanges(const std::vector<NeuronRange>& neurons, const model::LayerRange& layers,
                   int64_t n_ff, const std::string& who) {
  const auto n_layers = static_cast<size_t>(layers.end - layers.begin);
  if (neurons.size() != n_layers) {
    return InvalidArgument(Str(who, " does not name its neurons of every layer:",
                               Kv("layers", n_layers), Kv("named", neurons.size())));
  }
  for (size_t layer = 0; layer < n_layers; ++layer) {
    const NeuronRange& range = neurons[layer];
    if (range.end <= n_ff) continue;
    return InvalidArgument(
        Str(who, " gets neurons that layer ", layers.begin + static_cast<int>(layer),
            " does not have:", Kv("begin", range.begin), Kv("end", range.end), Kv("n_ff", n_ff)));
  }
  return OkStatus();
}

// The helpers' first: what the lead has may be what they leave.
Status CheckSharedNeurons(const Plan& plan, size_t i, int64_t n_ff) {
  const StagePlan& stage = plan.stages[i];
  for (const HelperPlan& helper : stage.helpers) {
    TC_RETURN_IF_ERROR(
        CheckRanges(helper.neurons, stage.layers, n_ff, HelperName(plan, i, helper)));
  }
  TC_RETURN_IF_ERROR(CheckRanges(stage.neurons, stage.layers, n_ff, StageName(plan, i)));
  for (size_t layer = 0; layer < stage.neurons.size(); ++layer) {
    const int number = stage.layers.begin + static_cast<int>(layer);
    if (stage.neurons[layer].empty()) {
      return InvalidArgument(
          Str(StageName(plan, i), " leaves its lead no neuron of layer ", number));
    }
    std::vector<NeuronRange> ranges = {stage.neurons[layer]};
    for (const HelperPlan& helper : stage.helpers) ranges.push_back(helper.neurons[layer]);
    TC_RETURN_IF_ERROR(
        CheckNeuronsOfLayer(std::move(ranges), n_ff, Str(StageName(plan, i), " layer ", number)));
  }
  return OkStatus();
}

// The lead has some, so that it knows when its helpers' are wanted. Whole KV heads, and attn_output
// stays at the lead: so nothing is said of blocks of quantised types.
Status CheckSharedHeads(const Plan& plan, size_t i, int n_head_kv) {
  const StagePlan& stage = plan.stages[i];
  const auto check = [&](const HeadRange& heads, const std::string& who) {
    if (0 <= heads.begin && heads.begin <= heads.end && heads.end <= n_head_kv) return OkStatus();
    return InvalidArgument(
        Str(who, " gets heads that the model does not have:", Kv("begin", heads.begin),
            Kv("end", heads.end), Kv("n_head_kv", n_head_kv)));
  };
  std::vector<HeadRange> ranges = {stage.heads};
  for (const HelperPlan& helper : stage.helpers) {
    TC_RETURN_IF_ERROR(check(helper.heads, HelperName(plan, i, helper)));
    ranges.push_back(helper.heads);
  }
  TC_RETURN_IF_ERROR(check(stage.heads, StageName(plan, i)));
  std::erase_if(ranges, [](const HeadRange& range) { return range.empty(); });
  if (ranges.empty()) return OkStatus();  // all of them are the lead's
  if (stage.heads.empty()) {
    return InvalidArgument(Str(StageName(plan, i), " leaves its lead no head"));
  }
  std::sort(ranges.begin(), ranges.end(),
            [](const HeadRange& a, const HeadRange& b) { return a.begin < b.begin; });
  int next = 0;
  for (const HeadRange& range : ranges) {
    if (range.begin != next) {
      return InvalidArgument(
          Str(StageName(plan, i), ": heads are placed ",
              range.begin > next ? "nowhere:" : "twice:", Kv("from", std::min(next, range.begin)),
              Kv("to", std::max(next, range.begin)), Kv("n_head_kv", n_head_kv)));
    }
    next = range.end;
  }
  if (next == n_head_kv) return OkStatus();
  return InvalidArgument(Str(StageName(plan, i), ": heads end elsewhere than the layer:",
                             Kv("end", next), Kv("n_head_kv", n_head_kv)));
}

Status CheckHeads(const Plan& plan, int n_head_kv) {
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const StagePlan& stage = plan.stages[i];
    if (stage.is_split()) {
      TC_RETURN_IF_ERROR(CheckSharedHeads(plan, i, n_head_kv));
    } else if (stage.shares_heads()) {
      return InvalidArgument(Str(StageName(plan, i), " shares its heads with no helper"));
    }
    if (!stage.shares_heads() || plan.kv.n_pages <= kMaxToldPages) continue;
    return InvalidArgument(Str(StageName(plan, i),
                               " shares its heads, and KV has more pages than "
                               "its helpers can be told of:",
                               Kv("n_pages", plan.kv.n_pages), Kv("most", kMaxToldPages)));
  }
  return OkStatus();
}

Status CheckNeurons(const Plan& plan, int64_t n_ff) {
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const StagePlan& stage = plan.stages[i];
    if (stage.is_split()) {
      TC_RETURN_IF_ERROR(CheckSharedNeurons(plan, i, n_ff));
    } else if (!stage.neurons.empty()) {
      return InvalidArgument(Str(StageName(plan, i), " shares its neurons with no helper"));
    }
  }
  return OkStatus();
}

std::string LinkName(WorkerId from, WorkerId to) {
  return Str("link between worker ", from, " and worker ", to);
}

Status CheckWire(DType wire, const std::string& prefix) {
  if (IsFloat(wire)) return OkStatus();
  return InvalidArgument(Str(prefix, "wire is not a float type: ", DTypeName(wire)));
}

Status CheckLinks(const Plan& plan) {
  TC_RETURN_IF_ERROR(CheckWire(plan.wire, ""));
  Status first;
  ForEachLink(plan, [&](WorkerId from, WorkerId to, const LinkChoice& choice) {
    if (first.ok()) first = CheckWire(plan.WayOf(choice).wire, LinkName(from, to) + ": ");
  });
  TC_RETURN_IF_ERROR(first);
  if (plan.stages.back().to_next == LinkChoice{}) return OkStatus();
  return InvalidArgument(
      Str("the last stage has no link to a next one, of which it says something: ",
          StageName(plan, plan.stages.size() - 1),
          Kv("says", WayText(plan.WayOf(plan.stages.back().to_next)))));
}

Status CheckKv(const Plan& plan) {
  const KvBudget& kv = plan.kv;
  if (kv.page_tokens < 1 || kv.page_tokens > kMaxPageTokens) {
    return InvalidArgument(
        Str("kv.page_tokens out of range: ", kv.page_tokens, " is not in 1..", kMaxPageTokens));
  }
  if (kv.dtype != DType::kF32 && kv.dtype != DType::kF16) {
    return InvalidArgument(Str("kv.dtype is neither F32 nor F16: ", DTypeName(kv.dtype)));
  }
  if (plan.micro_batches < 1 || plan.micro_batches > kMaxMicroBatches) {
    return InvalidArgument(Str("micro_batches out of range: ", plan.micro_batches, " is not in 1..",
                               kMaxMicroBatches));
  }
  if (plan.n_ctx < 1 || plan.n_ctx > kMaxContextTokens) {
    return InvalidArgument(
        Str("n_ctx out of range: ", plan.n_ctx, " is not in 1..", kMaxContextTokens));
  }
  const int64_t max_pages = kMaxKvTokens / kv.page_tokens;
  if (kv.n_pages < 0 || kv.n_pages > max_pages) {
    return InvalidArgument(
        Str("kv.n_pages out of range: ", kv.n_pages, " is not in 0..", max_pages));
  }
  if (kv.n_tokens() >= plan.n_ctx) return OkStatus();
  return InvalidArgument(Str("KV pages hold less than one sequence:", Kv("n_pages", kv.n_pages),
                             Kv("page_tokens", kv.page_tokens), Kv("n_ctx", plan.n_ctx)));
}

Status CheckPart(const PartBytes& stated, const PartBytes& model, const std::string& who) {
  if (stated.weights != model.weights) {
    return InvalidArgument(Str(who, " states other weights than the model has:",
                               Kv("weights_bytes", stated.weights), Kv("model", model.weights)));
  }
  if (stated.relay != model.relay) {
    return InvalidArgument(Str(who, " states other re-laid rows than it has:",
                               Kv("relay_bytes", stated.relay), Kv("model", model.relay)));
  }
  if (stated.saved != model.saved) {
    return InvalidArgument(Str(who, " states other savings by rows in 8 bits than its worker has:",
                               Kv("saved_bytes", stated.saved), Kv("model", model.saved)));
  }
  if (stated.predictors == model.predictors) return OkStatus();
  return InvalidArgument(
      Str(who, " states other predictors than it holds:", Kv("predictor_bytes", stated.predictors),
          Kv("model", model.predictors)));
}

PartBytes LeadBytes(const StagePlan& stage, const ModelBytes& model, NeuronRows rows) {
  return stage.is_split() ? model.LeadPart(stage.layers, stage.neurons, rows, stage.heads)
                          : model.WholePart(stage.layers, rows);
}

Status CheckKvBytes(uint64_t stated, uint64_t pages, const std::string& who) {
  if (stated == pages) return OkStatus();
  return InvalidArgument(Str(who, " states another KV size than its pages have:",
                             Kv("kv_bytes", stated), Kv("pages", pages)));
}

Status CheckBytes(const Plan& plan, const model::ModelConfig& config,
                  const model::WeightIndex& weights, const ClusterProfile& cluster,
                  model::FfnModes ffn) {
  const ModelBytes model = ModelBytes::Of(config, weights, ffn);
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const StagePlan& stage = plan.stages[i];
    TC_RETURN_IF_ERROR(CheckPart(stage.bytes(), LeadBytes(stage, model, cluster.RowsOf(stage.lead)),
                                 StageName(plan, i)));
    for (const HelperPlan& helper : stage.helpers) {
      const std::string who = HelperName(plan, i, helper);
      const NeuronRows rows = cluster.RowsOf(helper.worker);
      TC_RETURN_IF_ERROR(CheckPart(
          helper.bytes, model.HelperPart(stage.layers, helper.neurons, rows, helper.heads), who));
      TC_RETURN_IF_ERROR(
          CheckKvBytes(helper.kv_bytes, KvBytes(config, plan.kv, stage.layers, helper.heads), who));
    }
    TC_RETURN_IF_ERROR(CheckKvBytes(stage.kv_bytes,
                                    KvBytes(config, plan.kv, stage.layers, HeadsOf(stage, config)),
                                    StageName(plan, i)));
  }
  return OkStatus();
}

// Rounded sums can look equal, so what is missing is said too, and what to give.
std::string Missing(uint64_t needed, uint64_t memory) {
  if (needed <= memory) return "";  // they overflow
  const uint64_t mib = (needed + kMiB - 1) / kMiB;
  return Str(", ", FormatBytes(needed - memory), " are missing: give it --memory ", mib, "M");
}

std::string SavedText(uint64_t saved_bytes) {
  return saved_bytes == 0 ? "" : Str(" - saved by rows in 8 bits ", FormatBytes(saved_bytes));
}

Status CheckFits(const PartBytes& bytes, uint64_t kv_bytes, uint64_t overhead, uint64_t memory,
                 const std::string& who) {
  uint64_t needed = overhead;
  const bool summed =
      AddChecked(needed, bytes.weights, &needed) && AddChecked(needed, bytes.relay, &needed) &&
      AddChecked(needed, bytes.predictors, &needed) && AddChecked(needed, kv_bytes, &needed);
  needed -= std::min(needed, bytes.saved);
  if (summed && needed <= memory) return OkStatus();
  return InvalidArgument(Str(who, " does not fit its worker: weights ", FormatBytes(bytes.weights),
                             " + re-laid rows ", FormatBytes(bytes.relay), " + predictors ",
                             FormatBytes(bytes.predictors), SavedText(bytes.saved), " + KV ",
                             FormatBytes(kv_bytes), " + overhead ", FormatBytes(overhead),
                             " is more than ", FormatBytes(memory), Missing(needed, memory)));
}

Status CheckMemory(const Plan& plan, const OverheadModel& overhead, const ClusterProfile& cluster) {
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const StagePlan& stage = plan.stages[i];
    const WorkerProfile& lead = *FindWorker(cluster, stage.lead);
    TC_RETURN_IF_ERROR(CheckFits(stage.bytes(), stage.kv_bytes,
                                 overhead.OfLead(stage, HolderOf(lead)), lead.memory_bytes,
                                 StageName(plan, i)));
    for (const HelperPlan& helper : stage.helpers) {
      const WorkerProfile& worker = *FindWorker(cluster, helper.worker);
      TC_RETURN_IF_ERROR(CheckFits(helper.bytes, helper.kv_bytes,
                                   overhead.OfHelper(stage, helper, HolderOf(worker)),
                                   worker.memory_bytes, HelperName(plan, i, helper)));
    }
  }
  return OkStatus();
}

}  // namespace

int Plan::batches_under_way() const {
  int n = 0;
  for (const StagePlan& stage : stages) n += stage.is_split() ? micro_batches : 1;
  return n;
}

bool Plan::has_links() const {
  return stages.size() > 1 || std::any_of(stages.begin(), stages.end(),
                                          [](const StagePlan& stage) { return stage.is_split(); });
}

Status ValidatePlan(const Plan& plan, const model::ModelConfig& config,
                    const model::WeightIndex& weights, const ClusterProfile& cluster,
                    const PlanRequest& request) {
  TC_RETURN_IF_ERROR(CheckLayers(plan, config));
  TC_RETURN_IF_ERROR(CheckEnds(plan));
  TC_RETURN_IF_ERROR(CheckLeads(plan, cluster));
  TC_RETURN_IF_ERROR(CheckHelpers(plan, cluster));
  TC_RETURN_IF_ERROR(CheckHeads(plan, config.n_head_kv));
  TC_RETURN_IF_ERROR(CheckNeurons(plan, config.n_ff));
  TC_RETURN_IF_ERROR(CheckLinks(plan));
  TC_RETURN_IF_ERROR(CheckKv(plan));
  TC_RETURN_IF_ERROR(CheckBytes(plan, config, weights, cluster, request.ffn));
  const OverheadModel overhead(config, weights, request.ffn, request.max_step_tokens,
                               plan.kv.n_pages);
  return CheckMemory(plan, overhead, cluster);
}

}  // namespace thermocline::placement
