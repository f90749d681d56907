// Which neurons are hot now, whether another plan would suit them better, and in which order their
// rows then stand.
#include <algorithm>
#include <numeric>
#include <utility>

#include "base/log.h"
#include "base/str.h"
#include "coordinator/engine.h"
#include "coordinator/replan_rule.h"

namespace thermocline::coordinator {
namespace {

// Looks at the heat from one search for a plan to the next: what is hot for a minute must not move
// weights to and fro, and what was not worth it will not be soon.
constexpr int kLooksPerSearch = 10;
// Below this share of other neurons no plan is searched for: what it could save is within
// kLeastGain.
constexpr double kLeastDrift = 0.1;

std::vector<int> SharedLayersOf(const placement::Plan& plan) {
  std::vector<int> layers;
  for (const placement::StagePlan& stage : plan.stages) {
    if (!stage.is_split()) continue;
    for (int layer = stage.layers.begin; layer < stage.layers.end; ++layer) layers.push_back(layer);
  }
  return layers;
}

int Percent(double share) { return static_cast<int>(100 * share + 0.5); }

}  // namespace

// Whoever joins is planned with as soon as nothing else goes on with plans; the rule is the same.
// The rates of all neurons are gone through at the interval only.
Status Engine::LookAtHeat(TimePoint now) {
  if (!scheduler_) return OkStatus();
  const bool is_due = now >= next_look_;
  if (is_due) {
    next_look_ = now + options_.replan_interval;
    plan_status_.drift = live_heat_.DriftFrom(order_, planned_heats_);
    plan_status_.tokens_looked_at = live_heat_.n_tokens();
  }
  const bool is_busy = change_ || loss_ || plan_task_ != nullptr || join_survey_ != nullptr;
  if (options_.replan != ReplanMode::kAuto || is_busy) return OkStatus();
  if (std::exchange(has_joined_, false)) {
    return WishPlan({.why = "a worker has joined", .must_gain = true});
  }
  if (!is_due || now < next_search_ || plan_status_.drift < kLeastDrift) return OkStatus();
  if (membership_.profile().workers.size() < 2) return OkStatus();  // no choice
  next_search_ = now + kLooksPerSearch * options_.replan_interval;
  return WishPlan({.why = "other neurons are hot", .must_gain = true});
}

// The searched plan is for the hot neurons of now; its rival is what is served, as these meet it.
void Engine::AddHeats(PlanWish* wish, PlanJob* job) const {
  if (live_heat_.KnowsAny()) {
    wish->order = order_;
    wish->order.layers.resize(planned_heats_.size());
    for (size_t layer = 0; layer < wish->order.layers.size(); ++layer) {
      const int l = static_cast<int>(layer);
      if (live_heat_.Knows(l)) wish->order.layers[layer] = live_heat_.OrderOf(l, order_.Of(l));
    }
    job->heats = live_heat_.HeatsIn(wish->order, planned_heats_);
  } else {
    job->heats = planned_heats_;
  }
  if (!wish->must_gain) return;
  job->rival = plan_;
  job->rival_heats = live_heat_.HeatsIn(order_, planned_heats_);
}

bool Engine::IsWorthChanging(const PlanOutcome& next, const PlanWish& wish) {
  if (!next.rival) return false;
  const placement::PlanForecast& forecast = next.forecast;
  const ReplanCase facts{
      .now_s = next.rival->value_s,
      .next_s = next.speed.value_s,
      .step_s = forecast.step_s / static_cast<double>(forecast.n_sequences),
      .bytes_to_read = BytesToRead({plan_, order_}, {next.plan, OrderOf(next.plan, wish.order)},
                                   sources_.config),
      .read_bytes_per_s = read_bytes_per_s_,
      .n_tokens = scheduler_->n_computed()};
  plan_status_.predicted_gain = GainOf(facts);
  const bool is_worth_it = IsWorthIt(facts);
  const std::string line =
      Str(wish.why, ": another plan would save ", Percent(GainOf(facts)),
          " % of a token's time and stop streams for ", Percent(PauseOf(facts)) / 100.0,
          " s: ", is_worth_it ? "worth it" : "not worth it");
  LogInfo("coordinator", line);
  plan_status_.news = line;
  return is_worth_it;
}

// Whether neurons that several workers share would stand in another order.
bool Engine::StandsOtherwise(const placement::Plan& next, const model::NeuronOrder& order) const {
  return !order.layers.empty() && !StandAlike(next, order_, order);
}

// Only shared layers change their order: elsewhere it would move rows for nothing.
model::NeuronOrder Engine::OrderOf(const placement::Plan& next,
                                   const model::NeuronOrder& wished) const {
  model::NeuronOrder order = order_;
  if (wished.layers.empty()) return order;
  order.layers.resize(planned_heats_.size());
  for (const int layer : SharedLayersOf(next)) {
    const auto neurons = wished.Of(layer);
    if (!neurons.empty())
      order.layers[static_cast<size_t>(layer)] = {neurons.begin(), neurons.end()};
  }
  return order;
}

// Every layer by a table, those in the file's order too.
model::NeuronOrder Engine::InFull(model::NeuronOrder order) const {
  order.layers.resize(planned_heats_.size());
  for (std::vector<int32_t>& neurons : order.layers) {
    if (!neurons.empty()) continue;
    neurons.resize(static_cast<size_t>(sources_.config.n_ff));
    std::iota(neurons.begin(), neurons.end(), 0);
  }
  return order;
}

// Those who share a layer get its order from us, whatever profile lies beside their model.
void Engine::TakeOrder(const placement::Plan& next, const model::NeuronOrder& wished) {
  order_ = OrderOf(next, wished);
  order_.layers.resize(planned_heats_.size());
  const model::NeuronOrder full = InFull(order_);
  for (const int layer : SharedLayersOf(next)) {
    order_.layers[static_cast<size_t>(layer)] = full.layers[static_cast<size_t>(layer)];
    tabled_.insert(layer);
  }
}

// A given plan's heats, in the order it tells, which is that of the layers that are shared.
void Engine::TakeHeats(const PlanOutcome& planned) {
  if (!planned.heats.empty()) {
    for (const int layer : SharedLayersOf(planned.plan)) {
      const auto l = static_cast<size_t>(layer);
      planned_heats_[l] = planned.heats[l];
    }
  }
  planned_heats_ = live_heat_.HeatsIn(order_, planned_heats_);
}

std::vector<int> Engine::LayersWithTable(const proto::AssignPlan& assignment) const {
  std::vector<int> layers;
  if (assignment.stage < 0) return layers;
  const model::LayerRange& own = plan_.stages[static_cast<size_t>(assignment.stage)].layers;
  for (const int layer : tabled_) {
    if (own.begin <= layer && layer < own.end) layers.push_back(layer);
  }
  return layers;
}

Status Engine::SendTables(WorkerId worker, const proto::AssignPlan& assignment) {
  for (const int layer : LayersWithTable(assignment)) {
    const auto neurons = order_.Of(layer);
    TC_RETURN_IF_ERROR(SendToWorker(
        worker, proto::NeuronTable{plan_.epoch, layer, {neurons.begin(), neurons.end()}}));
  }
  return OkStatus();
}

}  // namespace thermocline::coordinator
