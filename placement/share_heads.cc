#include "placement/share_heads.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "placement/card_way.h"
#include "placement/forecast.h"

namespace thermocline::placement {
namespace {

// What sharing must gain: costs are estimates, and it makes a stage more dependent on its links.
constexpr double kLeastGain = 0.01;

// Of `n` things to members by weight: whole numbers that differ from their portions by less than
// one; the first has one at least.
std::vector<int> Allot(int n, const std::vector<double>& weights) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<int> parts;
  std::vector<std::pair<double, size_t>> rests;
  for (size_t m = 0; m < weights.size(); ++m) {
    const double portion = sum > 0 ? n * weights[m] / sum : 0;
    parts.push_back(static_cast<int>(portion));
    rests.emplace_back(parts.back() - portion, m);
  }
  std::sort(rests.begin(), rests.end());
  int left = n - std::accumulate(parts.begin(), parts.end(), 0);
  for (size_t i = 0; left > 0; i = (i + 1) % rests.size(), --left) ++parts[rests[i].second];
  if (parts[0] == 0) {
    --*std::max_element(parts.begin(), parts.end());
    ++parts[0];
  }
  return parts;
}

class HeadSharing {
 public:
  HeadSharing(BatchCosts& costs, PlannedModel* planned) : costs_(costs), planned_(planned) {}

  void Run() {
    for (size_t i = 0; i < planned_->plan.stages.size(); ++i) {
      if (planned_->plan.stages[i].is_split()) ShareStage(i);
    }
  }

 private:
  const PlannerInputs& inputs() const { return costs_.inputs(); }

  // All helpers that are on cards with the lead, and each alone; by rate, and by less of it where
  // memory is short.
  void ShareStage(size_t i) {
    const StagePlan& stage = planned_->plan.stages[i];
    const size_t n_helpers = stage.helpers.size();
    std::vector<std::vector<bool>> choices(1, std::vector<bool>(n_helpers, false));
    for (size_t h = 0; h < n_helpers; ++h) {
      if (!AreOnCards(stage.lead, stage.helpers[h].worker)) continue;
      choices[0][h] = true;
      choices.emplace_back(n_helpers, false)[h] = true;
    }
    PlannedModel best = *planned_;
    for (const std::vector<bool>& choice : choices) {
      for (const double part : {1.0, 0.5, 0.25}) Try(i, choice, part, &best);
    }
    *planned_ = std::move(best);
  }

  bool AreOnCards(WorkerId lead, WorkerId helper) const {
    return FindCardWay(*inputs().cluster.FindWorker(lead), *inputs().cluster.FindWorker(helper))
        .has_value();
  }

  void Try(size_t i, const std::vector<bool>& choice, double part, PlannedModel* best) const {
    PlannedModel next = *planned_;
    StagePlan& stage = next.plan.stages[i];
    std::vector<double> weights = {RateOf(stage.lead)};
    for (size_t h = 0; h < choice.size(); ++h) {
      weights.push_back(choice[h] ? part * RateOf(stage.helpers[h].worker) : 0);
    }
    const std::vector<int> parts = Allot(inputs().config.n_head_kv, weights);
    if (parts[0] == inputs().config.n_head_kv) return;
    Give(parts, next.plan.kv, &stage);
    const PlanRequest& request = costs_.options().request;
    const Status valid =
        ValidatePlan(next.plan, inputs().config, inputs().weights, inputs().cluster, request);
    if (!valid.ok()) return;
    auto speed = SpeedOf(next.plan, costs_);
    if (!speed.ok() || speed->value_s > best->speed.value_s * (1 - kLeastGain)) return;
    next.speed = *speed;
    *best = std::move(next);
  }

  double RateOf(WorkerId worker) const {
    return inputs().cluster.FindWorker(worker)->read_bytes_per_s.value;
  }

  void Give(const std::vector<int>& parts, const KvBudget& kv, StagePlan* stage) const {
    const ModelBytes& bytes = costs_.bytes();
    stage->heads = {0, parts[0]};
    const ClusterProfile& cluster = inputs().cluster;
    const PartBytes own =
        bytes.LeadPart(stage->layers, stage->neurons, cluster.RowsOf(stage->lead), stage->heads);
    stage->weights_bytes = own.weights;
    stage->kv_bytes = KvBytes(inputs().config, kv, stage->layers, stage->heads);
    int next = parts[0];
    for (size_t h = 0; h < stage->helpers.size(); ++h) {
      HelperPlan& helper = stage->helpers[h];
      helper.heads = {next, next + parts[h + 1]};
      if (helper.heads.empty()) helper.heads = {};
      next += parts[h + 1];
      helper.bytes = bytes.HelperPart(stage->layers, helper.neurons, cluster.RowsOf(helper.worker),
                                      helper.heads);
      helper.kv_bytes = KvBytes(inputs().config, kv, stage->layers, helper.heads);
    }
  }

  BatchCosts& costs_;
  PlannedModel* const planned_;
};

}  // namespace

void ShareHeads(BatchCosts& costs, PlannedModel* planned) { HeadSharing(costs, planned).Run(); }

}  // namespace thermocline::placement
