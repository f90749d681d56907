#include "placement/micro_batches.h"

#include <algorithm>

#include "placement/forecast.h"

namespace thermocline::placement {
namespace {

// Below this gain fewer and larger batches are kept: the forecast is not that exact.
constexpr double kWorthwhile = 0.97;

}  // namespace

Result<int> ChooseMicroBatches(const Plan& plan, BatchCosts& costs) {
  const auto is_split = [](const StagePlan& stage) { return stage.is_split(); };
  if (std::none_of(plan.stages.begin(), plan.stages.end(), is_split)) return 1;
  const int64_t n_streams = StreamsOf(costs.options());
  Plan tried = plan;
  int best = 1;
  double best_tokens_per_s = 0;
  for (int n = 1; n <= kMaxMicroBatches; ++n) {
    tried.micro_batches = n;
    if (n > 1 && tried.batches_under_way() > n_streams) break;
    TC_ASSIGN_OR_RETURN(const PlanSpeed speed, SpeedOf(tried, costs));
    if (n > 1 && kWorthwhile * speed.all_tokens_per_s <= best_tokens_per_s) continue;
    best = n;
    best_tokens_per_s = speed.all_tokens_per_s;
  }
  return best;
}

}  // namespace thermocline::placement
