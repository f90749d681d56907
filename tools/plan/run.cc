#include "tools/plan/run.h"

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "base/str.h"
#include "placement/cluster_yaml.h"
#include "placement/forecast.h"
#include "placement/link_preset.h"
#include "tools/plan/explain.h"
#include "tools/plan/inputs.h"
#include "tools/plan/neuron_runs.h"
#include "tools/plan/page.h"
#include "tools/plan/planning_line.h"
#include "tools/table.h"

namespace thermocline::tools {
namespace {

using placement::SplitPolicy;

// "-": to stdout.
Status WriteText(const std::string& path, const std::string& text) {
  if (path == "-") {
    const bool written = std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0;
    return written ? OkStatus() : Unavailable("cannot write to stdout");
  }
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (file) return OkStatus();
  return Unavailable(Str("cannot write ", path));
}

bool UsesStdout(const PlanFlags& flags) {
  return flags.output_path == "-" || flags.html_path == "-" || flags.save_cluster == "-";
}

void ListLinks() {
  Table table({{"link", Align::kLeft},
               {"latency us"},
               {"GB/s"},
               {"us of the sender"},
               {"what", Align::kLeft}});
  for (const placement::LinkPreset& preset : placement::LinkPresets()) {
    table.AddRow({std::string(preset.name), Str(preset.latency_us), Str(preset.gb_per_s),
                  Str(preset.message_us), std::string(preset.of)});
  }
  std::fputs(table.Markdown().c_str(), stdout);
}

// MakePlan, which may take a minute, with a word on how it is going.
Result<placement::PlannedModel> SearchPlan(const placement::PlannerInputs& inputs,
                                           placement::PlannerOptions options) {
  PlanningLine line;
  options.on_found = [&](const placement::PlanSpeed& speed) { line.Found(speed); };
  return placement::MakePlan(inputs, options);
}

// For as many streams, with keys and values for as many tokens as `planned` has: a policy that
// finds room for fewer only does not do the same work.
std::vector<PolicyOutcome> OtherPolicies(const PlanSources& sources,
                                         const placement::PlannedModel& planned) {
  std::vector<PolicyOutcome> others;
  for (const SplitPolicy policy :
       {SplitPolicy::kOptimal, SplitPolicy::kFrequencyGreedy, SplitPolicy::kProportional,
        SplitPolicy::kPipelineOnly, SplitPolicy::kPowerInfer}) {
    if (policy == sources.options.policy && !sources.given) continue;
    std::fprintf(stderr, "planning: %s\n", std::string(SplitPolicyName(policy)).c_str());
    placement::PlannerOptions options = sources.options;
    options.policy = policy;
    options.with_bound = false;
    options.n_streams = planned.speed.n_streams;
    options.request.n_ctx = planned.plan.n_ctx;
    options.request.kv = planned.plan.kv;
    const auto other = SearchPlan(sources.inputs(), options);
    PolicyOutcome outcome{.policy = policy};
    if (other.ok()) {
      outcome.speed = other->speed;
    } else {
      outcome.why_not = other.status().message();
    }
    others.push_back(std::move(outcome));
  }
  return others;
}

// The plan that was given, or the planner's own.
Result<placement::PlannedModel> PlanOf(const PlanFlags& flags, const PlanSources& sources) {
  const placement::PlannerInputs inputs = sources.inputs();
  if (!sources.given) {
    std::fprintf(stderr, "planning %d layers on %zu workers\n", inputs.config.n_layer,
                 inputs.cluster.workers.size());
    return SearchPlan(inputs, sources.options);
  }
  auto order = placement::OrderIn(sources.given->tables, inputs.config);
  if (!order.ok()) return order.status().WithContext(flags.plan_path);
  auto plan = placement::CompletePlan(sources.given->plan, inputs.config, inputs.weights,
                                      inputs.cluster, sources.options.request);
  if (!plan.ok()) return plan.status().WithContext(flags.plan_path);
  const std::vector<placement::NeuronHeat> heats =
      placement::HeatsInOrder(sources.heats, sources.model.neuron_order, *order);
  const placement::PlannerInputs told{inputs.config, inputs.weights, inputs.sparsity, heats,
                                      inputs.cluster};
  return placement::JudgePlan(*std::move(plan), told, sources.options);
}

bool IsShared(const placement::Plan& plan) {
  return std::any_of(plan.stages.begin(), plan.stages.end(),
                     [](const placement::StagePlan& stage) { return stage.is_split(); });
}

// What the written plan says of the neuron order. A given plan keeps its own.
placement::PlanTables TablesFor(const PlanFlags& flags, const PlanSources& sources,
                                const placement::Plan& plan) {
  const model::ModelConfig& config = sources.model.config;
  const bool has_own = sources.given && sources.given->tables.has_tables();
  if (has_own) return sources.given->tables;
  if (flags.with_neuron_tables) return placement::TablesOf(sources.model.neuron_order, config);
  if (sources.given) return sources.given->tables;
  if (!IsShared(plan)) return {};
  return {.order = placement::OrderId(sources.model.neuron_order, config.n_layer)};
}

// Where nobody shares neurons and nothing was said of their order, there is nothing to tell.
std::string OrderText(const PlanSources& sources, const placement::PlanTables& tables) {
  std::string text;
  if (tables.has_tables()) {
    text = Str("\nneuron tables: the plan has those of its ", tables.layers.size(), " layers");
    if (tables.order) text += Str(" (order ", placement::OrderName(*tables.order), ")");
    text += "\n";
  } else if (tables.order) {
    text = Str("\nneuron tables: none in the plan; its intervals count in the order ",
               placement::OrderName(*tables.order), "\n");
  }
  if (!sources.given) return text;
  const uint64_t now = placement::OrderId(sources.model.neuron_order, sources.model.config.n_layer);
  const std::string note = placement::OrderNote(sources.given->tables, now);
  return note.empty() ? text : Str(text, "warning: ", note, "\n");
}

}  // namespace

Status RunPlan(const PlanFlags& flags) {
  if (flags.list_links) {
    ListLinks();
    return OkStatus();
  }
  TC_RETURN_IF_ERROR(CheckPlanFlags(flags));
  TC_ASSIGN_OR_RETURN(const PlanSources sources, ReadPlanSources(flags));
  if (!flags.save_cluster.empty()) {
    TC_RETURN_IF_ERROR(WriteText(flags.save_cluster, placement::ClusterToYaml(sources.cluster)));
  }
  TC_ASSIGN_OR_RETURN(const placement::PlannedModel planned, PlanOf(flags, sources));
  std::string explanation =
      ExplainPlan(sources, planned,
                  flags.compare ? OtherPolicies(sources, planned) : std::vector<PolicyOutcome>{});
  const placement::PlanTables tables = TablesFor(flags, sources, planned.plan);
  explanation += OrderText(sources, tables);
  if (flags.explain) {
    explanation +=
        Str("\n", NeuronRunsText(planned, sources.model.config.n_ff), "\n", ExplainLayers(planned));
  }
  if (!flags.html_path.empty()) {
    TC_RETURN_IF_ERROR(WriteText(flags.html_path, PlanPage(sources, planned, explanation)));
  }
  const auto link =
      LeavesTransport(flags) ? placement::PlanLink::kLeaveOut : placement::PlanLink::kWrite;
  std::fputs(explanation.c_str(), UsesStdout(flags) ? stderr : stdout);
  if (flags.output_path.empty()) return OkStatus();
  return WriteText(flags.output_path, placement::PlanFileToJson(planned.plan, tables, link));
}

}  // namespace thermocline::tools
