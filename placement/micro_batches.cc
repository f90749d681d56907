#include "placement/micro_batches.h"

#include <algorithm>

#include "placement/forecast.h"

namespace thermocline::placement {
namespace {

// Below this gain fewer and larger batches are kept: the forecast is not that exact.
constexpr double kWorthwhile = 0.97;

}  // namespace

Result<int> ChooseMicroBatches(const Plan& plan, const PlannerInputs& inputs,
                               const PlannerOptions& options) {
  const auto is_split = [](const StagePlan& stage) { return stage.is_split(); };
  if (std::none_of(plan.stages.begin(), plan.stages.end(), is_split)) return 1;
  Plan tried = plan;
  int best = 1;
  double best_s = 0;
  for (int n = 1; n <= kMaxMicroBatches; ++n) {
    tried.micro_batches = n;
    const int64_t n_batches = tried.batches_under_way();
    if (n > 1 && n_batches > options.n_sequences) break;
    PlannerOptions one_batch = options;
    one_batch.n_sequences = (options.n_sequences + n_batches - 1) / n_batches;
    TC_ASSIGN_OR_RETURN(const PlanForecast forecast, ForecastPlan(tried, inputs, one_batch));
    const double round_s =
        std::max(forecast.step_s, static_cast<double>(n_batches) * forecast.bottleneck_s);
    if (n > 1 && round_s >= kWorthwhile * best_s) continue;
    best = n;
    best_s = round_s;
  }
  return best;
}

}  // namespace thermocline::placement
