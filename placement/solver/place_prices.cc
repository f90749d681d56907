#include "placement/solver/place_prices.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>

#include "placement/solver/layer_oracle.h"
#include "placement/solver/master_lp.h"

namespace thermocline::placement {
namespace {

constexpr int kSamples = 3;     // layers by which prices are chosen
constexpr int kMaxRounds = 40;  // of column generation
constexpr double kGap = 1e-3;   // at which it may stop
constexpr size_t kColumns = 3;  // added for a layer at once
constexpr size_t kLeads = 3;    // asked for a layer between rounds in which all are
constexpr int kAskAll = 6;      // rounds from one such to the next
constexpr double kNoPrice = std::numeric_limits<double>::infinity();
constexpr double kScaledValue = 100;  // what the master's objective is about
// Of that, what a column gains at least: a millionth of the value, far below kGap.
constexpr double kLeastGain = 1e-4;
// Prices of a master of few columns swing from end to end: of the way to them from the best known.
constexpr double kStep = 0.5;

// What a layer takes under one lead in a stage of one length.
struct Answer {
  double price = kNoPrice;
  double cost = 0;                           // without prices, in seconds
  std::vector<double> places, memory, busy;  // by device; of all its memory
};

// A layer under one lead, and what is known of it.
struct Sample {
  LedLayer led;
  std::vector<LayerSplit> known;  // by length
  double price = kNoPrice;        // the least when it was last asked
};

// What is offered to an answer: splits of a layer in a stage of so many, at these prices.
struct Pricing {
  const LedLayer& led;
  int n_stage;
  SplitPrices prices;
  double lead_price;
};

class Search {
 public:
  Search(const LedLayers& layers, SplitObjective objective, const std::vector<int>& kinds,
         const std::vector<int>& lengths, ThreadPool& pool, const std::atomic<bool>* stop)
      : layers_(layers), objective_(objective), lengths_(lengths), pool_(pool), stop_(stop) {
    const int n = layers.n_layer(), n_samples = std::min(n, kSamples);
    std::vector<int> asked;  // equal layers have one answer
    for (int s = 0; s < n_samples; ++s) {
      const int l = kinds[static_cast<size_t>((2 * s + 1) * n / (2 * n_samples))];
      if (std::find(asked.begin(), asked.end(), l) == asked.end()) asked.push_back(l);
    }
    for (const int l : asked) {
      std::vector<Sample>& leads = samples_.emplace_back();
      for (const int lead : layers.leads()) {
        leads.push_back({layers.Of(l, lead), std::vector<LayerSplit>(lengths.size()), kNoPrice});
      }
    }
  }

  PlacePrices Run() {
    const std::vector<double> none(static_cast<size_t>(layers_.n_devices()), 0.0);
    best_ = {objective_.latency, none, none, none};
    for (double& busy : best_.busy) busy = (1 - objective_.latency) / layers_.n_devices();
    best_value_ = Ask(best_, true);
    if (!(best_value_ > 0 && best_value_ < kNoPrice)) return best_;
    scale_ = best_value_ / kScaledValue;
    MasterLp master(static_cast<int>(samples_.size()), Resources(), 1 - objective_.latency);
    for (size_t s = 0; s < samples_.size(); ++s) AddColumns(s, false, &master);
    for (int round = 0; round < kMaxRounds && !is_stopped(); ++round) {
      if (!master.Solve() || best_value_ >= master.objective() * scale_ * (1 - kGap)) break;
      const PlacePrices last = PricesOf(master);
      // What few leads answer may be too high.
      if (round % kAskAll == kAskAll - 1) best_value_ = Ask(best_, true);
      bool added = Try(HalfWay(last), false, &master);
      if (!added) added = Try(last, true, &master);
      if (!added) break;
    }
    return best_;
  }

 private:
  bool is_stopped() const { return stop_ != nullptr && *stop_; }
  size_t n_types() const { return layers_.leads().size(); }

  // Places, memory and, where the bottleneck counts, time, by type of device.
  std::vector<MasterLp::Resource> Resources() const {
    std::vector<MasterLp::Resource> resources(2 * n_types(), {.limit = 1});
    if (objective_.latency < 1) {
      resources.resize(3 * n_types(), {.limit = 0, .minus_z = true});
    }
    return resources;
  }

  PlacePrices PricesOf(const MasterLp& master) const {
    PlacePrices prices = best_;
    for (int d = 0; d < layers_.n_devices(); ++d) {
      const size_t type = layers_.type(d);
      const auto of = [&](size_t family) {
        return master.price(static_cast<int>(family * n_types() + type)) / layers_.n_alike(type);
      };
      prices.place[d] = of(0) * scale_;
      prices.byte[d] = of(1) * scale_ / layers_.memory(d);
      if (objective_.latency < 1) prices.busy[d] = of(2);
    }
    return prices;
  }

  PlacePrices HalfWay(const PlacePrices& to) const {
    PlacePrices prices = best_;
    for (size_t d = 0; d < prices.byte.size(); ++d) {
      prices.byte[d] += kStep * (to.byte[d] - prices.byte[d]);
      prices.place[d] += kStep * (to.place[d] - prices.place[d]);
      prices.busy[d] += kStep * (to.busy[d] - prices.busy[d]);
    }
    return prices;
  }

  bool Try(const PlacePrices& prices, bool all_leads, MasterLp* master) {
    const double value = Ask(prices, all_leads);
    if (value > best_value_) {
      best_value_ = value;
      best_ = prices;
    }
    bool added = false;
    for (size_t s = 0; s < samples_.size(); ++s) added |= AddColumns(s, true, master);
    return added;
  }

  // About what the bound is worth at these prices; infinite where no answer is found.
  double Ask(const PlacePrices& prices, bool all_leads) {
    std::vector<std::pair<size_t, size_t>> asked;
    for (size_t s = 0; s < samples_.size(); ++s) {
      for (const size_t lead : LeadsOf(samples_[s], all_leads)) asked.emplace_back(s, lead);
    }
    const size_t n = lengths_.size();
    std::vector<Answer> answers(asked.size() * n);
    pool_.ParallelFor(static_cast<int64_t>(answers.size()), [&](int64_t i, int) {
      const auto at = static_cast<size_t>(i);
      const auto [s, lead] = asked[at / n];
      answers[at] = AnswerOf(samples_[s][lead], at % n, prices);
    });
    answers_.assign(samples_.size(), std::vector<Answer>(n));
    for (size_t i = 0; i < answers.size(); ++i) {
      const auto [s, lead] = asked[i / n];
      double& least = samples_[s][lead].price;
      least = std::min(i % n == 0 ? kNoPrice : least, answers[i].price);
      Answer& best = answers_[s][i % n];
      if (answers[i].price < best.price) best = std::move(answers[i]);
    }
    double value = -prices.Paid(layers_);
    for (std::vector<Answer>& of_layer : answers_) {
      std::sort(of_layer.begin(), of_layer.end(),
                [](const Answer& a, const Answer& b) { return a.price < b.price; });
      value += Weight() * of_layer.front().price;
    }
    return value;
  }

  // Layers that a sample stands for.
  double Weight() const {
    return static_cast<double>(layers_.n_layer()) / static_cast<double>(samples_.size());
  }

  std::vector<size_t> LeadsOf(const std::vector<Sample>& leads, bool all) const {
    std::vector<size_t> order(leads.size());
    std::iota(order.begin(), order.end(), size_t{0});
    if (all || order.size() <= kLeads) return order;
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return leads[a].price < leads[b].price; });
    order.resize(kLeads);
    return order;
  }

  Answer AnswerOf(Sample& sample, size_t length, const PlacePrices& prices) const {
    Answer answer;
    const LedLayer& led = sample.led;
    const int n_stage = lengths_[length];
    if (layers_.cap(led.lead) < n_stage) return answer;
    const Pricing pricing = {led, n_stage, prices.Of(layers_, led.lead, n_stage),
                             prices.LeadPrice(layers_, led.layer, led.lead, n_stage)};
    if (led.shared) {
      const LayerTables& tables = led.shared->tables;
      // Prices change much from one round to the next, so each search starts afresh.
      LayerSplit& known = sample.known[length];
      if (!known.empty()) Offer(pricing, tables, known, &answer);
      if (const auto split = BestLayerSplit(tables, pricing.prices, {.thorough = false})) {
        known = *split;
        Offer(pricing, tables, known, &answer);
      }
    }
    if (led.alone) {
      const LayerTables& tables = led.alone->tables;
      Offer(pricing, tables, {{0, tables.n_blocks()}}, &answer);
    }
    return answer;
  }

  void Offer(const Pricing& pricing, const LayerTables& tables, const LayerSplit& split,
             Answer* best) const {
    const double price = tables.Price(pricing.prices, split) + pricing.lead_price;
    if (price >= best->price) return;
    const int lead = pricing.led.lead;
    const std::vector<int> group = layers_.Group(lead);
    const std::vector<double> bytes = tables.Bytes(split);
    const std::vector<double> none(group.size(), 0.0);
    const SplitProblem& problem = tables.problem();
    Answer answer{price, 0, none, none, none};
    double lead_bytes = layers_.lead_bytes(pricing.led.layer, lead);
    for (size_t i = 0; i < split.size(); ++i) {
      const int d = group[i];
      answer.busy[d] = BusySeconds(problem, tables.layer(), split, i);
      if (i > 0 && split[i].empty()) continue;
      answer.places[d] = 1.0 / pricing.n_stage;
      answer.memory[d] = bytes[i] / layers_.memory(d);
      if (i > 0) lead_bytes += layers_.helper_bytes(lead) / pricing.n_stage;
    }
    answer.memory[lead] += lead_bytes / layers_.memory(lead);
    answer.cost =
        objective_.latency * (tables.layer().fixed_s + FfnSeconds(problem, tables.layer(), split));
    *best = std::move(answer);
  }

  // The cheapest of the last answers, or those that the master gains by.
  bool AddColumns(size_t sample, bool if_better, MasterLp* master) const {
    bool added = false;
    for (size_t i = 0; i < std::min(kColumns, answers_[sample].size()); ++i) {
      const Answer& answer = answers_[sample][i];
      if (answer.price == kNoPrice) break;
      const auto layer = static_cast<int>(sample);
      const double cost = Weight() * answer.cost / scale_;
      std::vector<double> usage = UsageOf(answer);
      if (if_better && master->ReducedCost(layer, cost, usage) >= -kLeastGain) continue;
      master->AddColumn(layer, cost, std::move(usage));
      added = true;
    }
    return added;
  }

  std::vector<double> UsageOf(const Answer& answer) const {
    std::vector<double> usage((objective_.latency < 1 ? 3 : 2) * n_types(), 0.0);
    for (int d = 0; d < layers_.n_devices(); ++d) {
      const size_t type = layers_.type(d);
      const double share = Weight() / layers_.n_alike(type);
      usage[type] += share * answer.places[d];
      usage[n_types() + type] += share * answer.memory[d];
      if (objective_.latency < 1) usage[2 * n_types() + type] += share * answer.busy[d] / scale_;
    }
    return usage;
  }

  const LedLayers& layers_;
  const SplitObjective objective_;
  const std::vector<int>& lengths_;
  ThreadPool& pool_;
  const std::atomic<bool>* const stop_;
  std::vector<std::vector<Sample>> samples_;  // by layer asked, by lead
  std::vector<std::vector<Answer>> answers_;  // the last, by layer asked; the cheapest first
  PlacePrices best_;
  double best_value_ = 0;
  double scale_ = 1;  // seconds of the objective per unit of the master's
};

}  // namespace

SplitPrices PlacePrices::Of(const LedLayers& layers, int lead, int n_stage) const {
  SplitPrices prices{.latency = latency};
  for (const int d : layers.Group(lead)) {
    prices.byte.push_back(byte[d]);
    prices.busy.push_back(busy[d]);
    const double messages = byte[lead] * layers.helper_bytes(lead);
    prices.part.push_back(d == lead ? 0 : (place[d] + messages) / n_stage);
  }
  return prices;
}

double PlacePrices::LeadPrice(const LedLayers& layers, int layer, int lead, int n_stage) const {
  return byte[lead] * layers.lead_bytes(layer, lead) + place[lead] / n_stage;
}

double PlacePrices::Paid(const LedLayers& layers) const {
  double paid = 0;
  for (int d = 0; d < layers.n_devices(); ++d) paid += byte[d] * layers.memory(d) + place[d];
  return paid;
}

PlacePrices FindPlacePrices(const LedLayers& layers, SplitObjective objective,
                            const std::vector<int>& kinds, const std::vector<int>& lengths,
                            ThreadPool& pool, const std::atomic<bool>* stop) {
  PlacePrices prices = Search(layers, objective, kinds, lengths, pool, stop).Run();
  // Of the bottleneck no more may be told than there is.
  const double busy = std::accumulate(prices.busy.begin(), prices.busy.end(), 0.0);
  const double most = 1 - objective.latency;
  for (double& price : prices.busy) price *= busy > most ? most / busy : 1;
  return prices;
}

}  // namespace thermocline::placement
