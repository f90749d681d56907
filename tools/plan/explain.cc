#include "tools/plan/explain.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string_view>

#include "base/str.h"
#include "base/units.h"
#include "placement/card_way.h"
#include "placement/forecast.h"
#include "placement/op_time.h"
#include "placement/plan_links.h"
#include "placement/reason_text.h"
#include "tools/table.h"

namespace thermocline::tools {
namespace {

using placement::HelperPlan;
using placement::NeuronRange;
using placement::PlanForecast;
using placement::StagePlan;

std::string Milliseconds(double seconds) {
  return FixedPoint(1e3 * seconds, seconds < 0.01 ? 3 : 2);
}
std::string Percent(double share) { return FixedPoint(100 * share, 1); }

double MeanShare(const StagePlan& stage, size_t member, int64_t n_ff) {
  const auto n_layers = static_cast<size_t>(stage.layers.end - stage.layers.begin);
  double sum = 0;
  for (size_t layer = 0; layer < n_layers; ++layer) sum += NeuronShare(stage, member, layer, n_ff);
  return n_layers == 0 ? 0 : sum / static_cast<double>(n_layers);
}

// "fp8-e4m3, 1.2 GiB less"
std::string RowsText(const StagePlan& stage, size_t member, model::NeuronRows rows) {
  const uint64_t saved = member == 0 ? stage.saved_bytes : stage.helpers[member - 1].bytes.saved;
  return Str(model::NeuronRowsName(rows), saved > 0 ? Str(", ", FormatBytes(saved), " less") : "");
}

std::string MemberTable(const PlanSources& sources, const placement::PlannedModel& planned) {
  Table table({{"stage"},
               {"layers", Align::kLeft},
               {"worker"},
               {"host", Align::kLeft},
               {"part", Align::kLeft},
               {"neurons %"},
               {"busy ms"},
               {"memory"},
               {"of"}});
  // Only where somebody holds them in 8 bits.
  const auto& workers = sources.cluster.workers;
  const bool tells_rows = std::any_of(workers.begin(), workers.end(), [](const auto& worker) {
    return worker.neuron_rows != model::NeuronRows::kAsIs;
  });
  if (tells_rows) table.AddColumn({"neuron rows", Align::kLeft});
  for (size_t i = 0; i < planned.plan.stages.size(); ++i) {
    const StagePlan& stage = planned.plan.stages[i];
    const auto& members = planned.forecast.stages[i].members;
    for (size_t m = 0; m < members.size(); ++m) {
      const auto* worker = sources.cluster.FindWorker(members[m].worker);
      std::vector<std::string> cells = {
          m == 0 ? Str(i) : "",
          m == 0 ? placement::LayersText(stage.layers.begin, stage.layers.end) : "",
          Str(members[m].worker),
          worker->host,
          m == 0 ? "lead" : "helper",
          Percent(MeanShare(stage, m, sources.model.config.n_ff)),
          Milliseconds(members[m].busy_s),
          FormatBytes(members[m].memory_bytes),
          FormatBytes(worker->memory_bytes)};
      if (tells_rows) cells.push_back(RowsText(stage, m, worker->neuron_rows));
      table.AddRow(std::move(cells));
    }
  }
  return table.Markdown();
}

std::string Reasons(const placement::PlannedModel& planned) {
  std::string text;
  for (size_t i = 0; i < planned.plan.stages.size(); ++i) {
    const StagePlan& stage = planned.plan.stages[i];
    const std::string on = placement::UnlikeText(planned.plan, stage.to_next);
    text += Str("stage ", i, ", worker ", stage.lead, placement::HeadsText(stage.heads),
                on.empty() ? "" : Str(", on to the next", on), ": ", stage.reason, "\n");
    for (const HelperPlan& helper : stage.helpers) {
      text += Str("  helped by worker ", helper.worker, placement::HeadsText(helper.heads),
                  placement::UnlikeText(planned.plan, helper.to_lead), ": ", helper.reason, "\n");
    }
  }
  const std::string ways = placement::WaysText(planned.plan);
  return ways.empty() ? text : Str(text, "joined by ", ways, "\n");
}

// Of a plan that somebody gave nobody knows why.
std::string Unused(const PlanSources& sources, const placement::Plan& plan) {
  std::string text;
  for (const placement::WorkerProfile* worker : SparesOf(sources.cluster, plan)) {
    text += Str(text.empty() ? "" : ", ", worker->id, " (", worker->host, ")");
  }
  if (text.empty()) return "";
  const char* const why =
      !sources.given ? "the plan is no better with it" : "the plan names it nowhere";
  return Str("spare: worker ", text, ": ", why, "\n");
}

// Speeds that nobody said or measured, on which times above rest.
std::string AssumedRates(const placement::ClusterProfile& cluster) {
  std::map<std::string, std::string> workers_by_rate;
  for (const placement::WorkerProfile& worker : cluster.workers) {
    const placement::Figure& rate = worker.read_bytes_per_s;
    if (rate.origin != placement::Origin::kAssumed) continue;
    std::string& ids = workers_by_rate[FixedPoint(rate.value / 1e9, 1)];
    ids += Str(ids.empty() ? "worker " : ", ", worker.id);
  }
  std::string text;
  for (const auto& [rate, ids] : workers_by_rate) {
    text += Str("assumed: ", rate, " GB/s of memory for ", ids,
                "; `thermocline machine` measures it (read_gb_per_s of the cluster file, or "
                "--read-gb-per-s)\n");
  }
  return text;
}

std::string Streams(int64_t n) { return Str(n, n == 1 ? " stream" : " streams"); }
std::string Sequences(int64_t n) { return Str(n, n == 1 ? " sequence" : " sequences"); }

// What bounds know nothing of: members on cards that reach each other (placement::ShareHeads).
bool CanShareHeads(const placement::ClusterProfile& cluster) {
  const auto& workers = cluster.workers;
  return std::any_of(workers.begin(), workers.end(), [&](const placement::WorkerProfile& from) {
    return std::any_of(workers.begin(), workers.end(), [&](const placement::WorkerProfile& to) {
      return placement::FindCardWay(from, to).has_value();
    });
  });
}

// "" where nobody asked.
std::string_view WhyNoBound(const placement::PlannedModel& planned) {
  if (placement::SharesHeads(planned.plan)) return "; no bound is known for plans that share heads";
  const bool is_cut_off = planned.forecast.step_s >= placement::WorkerSpeed::kLongestOpS;
  return is_cut_off ? "; no bound is known for steps of hours" : "";
}

std::string Speeds(const placement::ClusterProfile& cluster,
                   const placement::PlannedModel& planned) {
  const PlanForecast& forecast = planned.forecast;
  const placement::PlanSpeed& speed = planned.speed;
  std::string speeds = Str("one stream: ", FixedPoint(speed.one_tokens_per_s, 1), " tokens/s");
  if (speed.n_streams > 1) {
    speeds += Str("; ", Streams(speed.n_streams), ": ", FixedPoint(speed.all_tokens_per_s, 1),
                  " tokens/s together");
  }
  speeds +=
      Str("\na step of ", Sequences(forecast.n_sequences), " takes ", Milliseconds(forecast.step_s),
          " ms and keeps the busiest worker for ", Milliseconds(forecast.bottleneck_s), " ms\n");
  const std::string value =
      Str("plan value, by which plans are compared: ", Milliseconds(speed.value_s), " ms");
  if (speed.lower_bound_s <= 0) {
    return Str(speeds, value, WhyNoBound(planned), "\n");
  }
  return Str(speeds, value, "; no plan on these workers",
             CanShareHeads(cluster) ? " that shares no heads" : "", " is below ",
             Milliseconds(speed.lower_bound_s), " ms: gap ", Percent(speed.gap()), " %\n");
}

std::string Comparison(const placement::PlannedModel& planned,
                       const std::vector<PolicyOutcome>& others) {
  if (others.empty()) return "";
  Table table(
      {{"policy", Align::kLeft}, {"plan value ms"}, {"worse by %"}, {"tokens/s of one stream"}});
  const int64_t n_streams = planned.speed.n_streams;
  if (n_streams > 1) table.AddColumn({Str("of ", Streams(n_streams))});
  const auto add = [&](std::string_view name, const placement::PlanSpeed& speed) {
    const double worse = speed.value_s / planned.speed.value_s - 1;
    std::vector<std::string> cells = {std::string(name), Milliseconds(speed.value_s),
                                      Percent(worse), FixedPoint(speed.one_tokens_per_s, 1)};
    if (n_streams > 1) cells.push_back(FixedPoint(speed.all_tokens_per_s, 1));
    table.AddRow(std::move(cells));
  };
  add("this plan", planned.speed);
  std::string notes;
  for (const PolicyOutcome& other : others) {
    const std::string_view name = placement::SplitPolicyName(other.policy);
    if (other.why_not.empty()) {
      add(name, other.speed);
    } else {
      notes += Str(name, " has no plan: ", other.why_not, "\n");
    }
  }
  return Str("\n", table.Markdown(), notes);
}

std::string HeldLine(const placement::PlanSpeed& speed) {
  const std::string held = placement::HeldText(speed);
  return held.empty() ? "" : held + "\n";
}

// The longest of the helpers' parts; 0 without.
double HelpersSeconds(const PlanForecast::Layer& layer) {
  const auto first = layer.parts_s.begin() + 1;
  return first == layer.parts_s.end() ? 0 : *std::max_element(first, layer.parts_s.end());
}

// Of the layers that a helper takes part in: how many of its neurons are expected to be active, and
// how many pay for its messages. A plan has fewer where those that keep to that are worse.
std::string LeastParts(const placement::PlannedModel& planned) {
  std::string text;
  for (size_t i = 0; i < planned.forecast.stages.size(); ++i) {
    const PlanForecast::Stage& stage = planned.forecast.stages[i];
    for (size_t m = 1; m < stage.members.size(); ++m) {
      double least = 0, fewest = 0;
      int n_layers = 0, n_fewer = 0;
      for (const PlanForecast::Layer& layer : stage.layers) {
        if (layer.active[m] <= 0) continue;
        ++n_layers;
        n_fewer += layer.active[m] < layer.least_active[m] * (1 - 1e-6);
        least = std::max(least, layer.least_active[m]);
        fewest = fewest > 0 ? std::min(fewest, layer.active[m]) : layer.active[m];
      }
      text +=
          Str("stage ", i, ", worker ", stage.members[m].worker, ": ", FixedPoint(least, 1),
              " active neurons of a layer pay for the lead's time with its messages; has ",
              FixedPoint(fewest, 1), " or more",
              n_fewer == 0 ? "" : Str(", in ", n_fewer, " of ", n_layers, " layers too few"), "\n");
    }
  }
  return text.empty() ? text : text + "\n";
}

}  // namespace

std::string ExplainLayers(const placement::PlannedModel& planned) {
  Table table({{"layer"},
               {"stage"},
               {"ffn", Align::kLeft},
               {"attention ms"},
               {"lead's neurons ms"},
               {"helpers' ms"},
               {"links ms"},
               {"lead waits ms"},
               {"layer ms"}});
  const auto ends = [&](const char* what, size_t stage, double seconds) {
    if (seconds <= 0) return;
    table.AddRow({what, Str(stage), "", "", "", "", "", "", Milliseconds(seconds)});
  };
  for (size_t i = 0; i < planned.forecast.stages.size(); ++i) {
    const PlanForecast::Stage& stage = planned.forecast.stages[i];
    ends("embedding", i, stage.embed_s);
    int number = planned.plan.stages[i].layers.begin;
    for (const PlanForecast::Layer& layer : stage.layers) {
      table.AddRow({Str(number++), Str(i), std::string(model::FfnModeName(layer.mode)),
                    Milliseconds(layer.before_ffn_s), Milliseconds(layer.parts_s[0]),
                    Milliseconds(HelpersSeconds(layer)), Milliseconds(layer.links_s),
                    Milliseconds(layer.wait_s), Milliseconds(layer.before_ffn_s + layer.ffn_s)});
    }
    ends("head", i, stage.head_s);
  }
  return Str(table.Markdown(), "\n", LeastParts(planned));
}

std::vector<const placement::WorkerProfile*> SparesOf(const placement::ClusterProfile& cluster,
                                                      const placement::Plan& plan) {
  std::set<WorkerId> used;
  for (const StagePlan& stage : plan.stages) {
    used.insert(stage.lead);
    for (const HelperPlan& helper : stage.helpers) used.insert(helper.worker);
  }
  std::vector<const placement::WorkerProfile*> spares;
  for (const placement::WorkerProfile& worker : cluster.workers) {
    if (!used.contains(worker.id)) spares.push_back(&worker);
  }
  return spares;
}

double NeuronShare(const StagePlan& stage, size_t member, size_t layer, int64_t n_ff) {
  if (!stage.is_split()) return member == 0 ? 1 : 0;
  const NeuronRange& range =
      member == 0 ? stage.neurons[layer] : stage.helpers[member - 1].neurons[layer];
  return range.empty() ? 0 : static_cast<double>(range.size()) / static_cast<double>(n_ff);
}

std::string ExplainPlan(const PlanSources& sources, const placement::PlannedModel& planned,
                        const std::vector<PolicyOutcome>& others) {
  const placement::PlannerOptions& options = sources.options;
  const model::ModelConfig& config = sources.model.config;
  return Str(config.arch_name, " of ", config.n_layer, " layers, n_embd ", config.n_embd, ", n_ff ",
             config.n_ff, "; ffn ", model::FfnModesText(options.request.ffn),
             "; activity: ", sources.heat_source, "\n", Streams(planned.speed.n_streams), " with ",
             options.n_context, " tokens in the context; room for contexts of ", planned.plan.n_ctx,
             ", ", planned.plan.kv.n_tokens(), " tokens in all\n", HeldLine(planned.speed), "\n",
             MemberTable(sources, planned), "\n", Reasons(planned), Unused(sources, planned.plan),
             AssumedRates(sources.cluster), "\n", Speeds(sources.cluster, planned),
             Comparison(planned, others));
}

}  // namespace thermocline::tools
