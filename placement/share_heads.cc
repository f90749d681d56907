#include "placement/share_heads.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "base/str.h"
#include "placement/card_group.h"
#include "placement/card_way.h"
#include "placement/forecast.h"
#include "placement/op_time.h"
#include "placement/reason_text.h"

namespace thermocline::placement {
namespace {

// What sharing must gain: costs are estimates, and it makes a stage more dependent on its links.
constexpr double kLeastGain = 0.01;
// Of a rate, so little that one head is left.
constexpr double kLeastPart = 1e-6;
// Of helpers' rates: all, and less by halves where memory is short. Of eight KV heads, which most
// models do not exceed, an eighth would be one, as kLeastPart is.
constexpr double kParts[] = {1.0, 0.5, 0.25};

// Of `n` things to members by weight: whole numbers that differ from their portions by less than
// one, but for members with a weight that would have none, which get one of the largest part, as
// does the first. Nothing goes to a weight of 0 but to the first, nor to the others where all are
// 0. Empty where there are not enough.
std::vector<int> Allot(int n, const std::vector<double>& weights) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<int> parts(weights.size(), 0);
  std::vector<std::pair<double, size_t>> rests;
  for (size_t m = 0; m < weights.size(); ++m) {
    if (!(weights[m] > 0)) continue;
    const double portion = n * weights[m] / sum;
    parts[m] = static_cast<int>(portion);
    rests.emplace_back(parts[m] - portion, m);
  }
  if (rests.empty()) {
    parts[0] = n;
    return parts;
  }
  std::sort(rests.begin(), rests.end());
  int left = n - std::accumulate(parts.begin(), parts.end(), 0);
  for (size_t i = 0; left > 0; i = (i + 1) % rests.size(), --left) ++parts[rests[i].second];
  for (size_t m = 0; m < parts.size(); ++m) {
    if (parts[m] > 0 || (m > 0 && !(weights[m] > 0))) continue;
    int& most = *std::max_element(parts.begin(), parts.end());
    if (most < 2) return {};
    --most;
    parts[m] = 1;
  }
  return parts;
}

class HeadSharing {
 public:
  HeadSharing(BatchCosts& costs, PlannedModel* planned) : costs_(costs), planned_(planned) {}

  // To all helpers that are in a group of cards with the lead, or to none: where one of them has
  // no heads, those of the others come by the hosts. By rate, and by less of it where memory is
  // short, be it that of one of them.
  void ShareStage(size_t i) {
    const StagePlan& stage = planned_->plan.stages[i];
    const CardGroup group = GroupOf(stage, inputs().cluster);
    const bool reach_each_other =
        std::all_of(group.helpers.begin(), group.helpers.end(), [&](int h) {
          return AreOnCards(stage.lead, stage.helpers[static_cast<size_t>(h)].worker);
        });
    if (group.helpers.empty() || !reach_each_other) return;
    std::vector<double> rates(stage.helpers.size() + 1, 0);
    rates[0] = RateOf(stage.lead);
    for (const int h : group.helpers) {
      const auto at = static_cast<size_t>(h);
      rates[at + 1] = RateOf(stage.helpers[at].worker);
    }
    PlannedModel best = *planned_;
    for (const double part : kParts) {
      std::vector<double> all = rates;
      for (size_t m = 1; m < all.size(); ++m) all[m] *= part;
      Try(i, all, &best);
    }
    for (const int h : group.helpers) {
      for (const double part : {kParts[1], kParts[2], kLeastPart}) {
        std::vector<double> less = rates;
        less[static_cast<size_t>(h) + 1] *= part;
        Try(i, less, &best);
      }
    }
    if (best.plan.stages[i].shares_heads()) TellReasons(i, &best);
    *planned_ = std::move(best);
  }

 private:
  const PlannerInputs& inputs() const { return costs_.inputs(); }

  bool AreOnCards(WorkerId lead, WorkerId helper) const {
    return FindCardWay(*inputs().cluster.FindWorker(lead), *inputs().cluster.FindWorker(helper))
        .has_value();
  }

  // `weights` of the lead, then the helpers: those of the group have one.
  void Try(size_t i, const std::vector<double>& weights, PlannedModel* best) const {
    const std::vector<int> parts = Allot(inputs().config.n_head_kv, weights);
    if (parts.empty() || parts[0] == inputs().config.n_head_kv) return;
    PlannedModel next = *planned_;
    StagePlan& stage = next.plan.stages[i];
    Give(parts, next.plan.kv, &stage);
    if (!GroupOf(stage, inputs().cluster).has_heads) return;
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
    const WorkerProfile& profile = *inputs().cluster.FindWorker(worker);
    return profile.read_bytes_per_s.value_or(WorkerSpeed::kAssumedReadBytesPerS);
  }

  // What was said of the stage was of its neurons.
  void TellReasons(size_t i, PlannedModel* shared) const {
    const auto before = ForecastPlan(planned_->plan, costs_);
    const auto after = ForecastPlan(shared->plan, costs_);
    if (!before.ok() || !after.ok()) return;
    StagePlan& stage = shared->plan.stages[i];
    stage.reason +=
        Str("; with its attention shared too ", MillisecondsText(after->stages[i].seconds),
            " in place of ", MillisecondsText(before->stages[i].seconds));
    for (HelperPlan& helper : stage.helpers) {
      if (helper.heads.empty()) continue;
      helper.reason += Str("; in the attention it helps", HeadsText(helper.heads));
    }
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

void ShareHeads(BatchCosts& costs, PlannedModel* planned) {
  for (size_t i = 0; i < planned->plan.stages.size(); ++i) ShareHeadsOf(costs, i, planned);
}

void ShareHeadsOf(BatchCosts& costs, size_t i, PlannedModel* planned) {
  if (planned->plan.stages[i].is_split()) HeadSharing(costs, planned).ShareStage(i);
}

}  // namespace thermocline::placement
