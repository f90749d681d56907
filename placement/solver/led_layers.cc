#include "placement/solver/led_layers.h"

#include <algorithm>
#include <limits>
#include <map>
#include <tuple>
#include <utility>

namespace thermocline::placement {
namespace {

// The longest run of layers that takes no more than that.
int LongestRun(const std::vector<uint64_t>& layers, double memory) {
  double taken = 0;
  size_t begin = 0, most = 0;
  for (size_t end = 0; end < layers.size(); ++end) {
    taken += static_cast<double>(layers[end]);
    while (taken > memory) taken -= static_cast<double>(layers[begin++]);
    most = std::max(most, end + 1 - begin);
  }
  return static_cast<int>(most);
}

double LeastHop(const StageModel& model) {
  double least = std::numeric_limits<double>::infinity();
  for (int from = 0; from < model.n_devices(); ++from) {
    for (int to = 0; to < model.n_devices(); ++to) {
      if (from != to) least = std::min(least, model.HopSeconds(from, to));
    }
  }
  return model.n_devices() > 1 ? least : 0;
}

}  // namespace

std::vector<int> FirstOfTypes(const StageModel& model) {
  std::vector<int> first;
  for (int d = 0; d < model.n_devices(); ++d) {
    int other = 0;
    while (other < d && model.DeviceType(other) != model.DeviceType(d)) ++other;
    first.push_back(other);
  }
  return first;
}

LayerForm::LayerForm(SplitProblem of)
    : problem(std::move(of)), tables(problem, problem.layers[0]) {}

LedLayers::LedLayers(const StageModel& model) : model_(model), least_hop_s_(LeastHop(model)) {
  const std::vector<int> first = FirstOfTypes(model);
  for (int d = 0; d < n_devices(); ++d) {
    if (first[d] == d) {
      types_.push_back(leads_.size());
      leads_.push_back(d);
      n_alike_.push_back(0);
      std::vector<uint64_t>& layers = lead_bytes_.emplace_back();
      for (int l = 0; l < n_layer(); ++l) layers.push_back(model.LeadBytes(l, d));
    } else {
      types_.push_back(types_[first[d]]);
    }
    n_alike_[types_[d]] += 1;
    most_memory_.push_back(model.MostMemory(d));
    helper_bytes_.push_back(static_cast<double>(model.HelperBytes(d)));
    caps_.push_back(LongestRun(lead_bytes_[types_[d]], memory(d)));
  }
}

double LedLayers::memory(int device) const {
  return std::max(1.0, static_cast<double>(most_memory_[device]));
}

double LedLayers::lead_bytes(int layer, int device) const {
  return static_cast<double>(lead_bytes_[types_[device]][layer]);
}

std::vector<int> LedLayers::Group(int lead) const {
  std::vector<int> group = {lead};
  for (int d = 0; d < n_devices(); ++d) {
    if (d != lead) group.push_back(d);
  }
  return group;
}

std::optional<SplitProblem> LedLayers::Shared(int layer, int lead) const {
  const std::vector<int> group = Group(lead);
  SplitProblem problem = model_.Times(layer, layer + 1, group);
  if (!CheckProblem(problem).ok()) return std::nullopt;
  problem.layers[0].least_active.clear();
  for (size_t i = 0; i < group.size(); ++i) {
    problem.devices[i].memory_bytes = most_memory_[group[i]];
  }
  return problem;
}

std::optional<SplitProblem> LedLayers::Alone(int layer, int lead) const {
  SplitProblem problem = model_.Times(layer, layer + 1, {lead});
  if (!CheckProblem(problem).ok()) return std::nullopt;
  return problem;
}

LedLayer LedLayers::Of(int layer, int lead) const {
  LedLayer led{.layer = layer, .lead = lead, .shared = nullptr, .alone = nullptr};
  if (auto shared = Shared(layer, lead)) {
    led.shared = std::make_unique<const LayerForm>(*std::move(shared));
  }
  if (auto alone = Alone(layer, lead)) {
    led.alone = std::make_unique<const LayerForm>(*std::move(alone));
  }
  return led;
}

std::vector<int> LedLayers::FirstOfLayerKinds() const {
  std::vector<int> first(static_cast<size_t>(n_layer()), 0);
  for (const int lead : leads_) {
    const auto forms = [&](int l) {
      return std::tuple(Shared(l, lead), Alone(l, lead), lead_bytes(l, lead));
    };
    const std::vector<int> before = first;    // under the other leads
    std::map<int, decltype(forms(0))> known;  // by first layer
    for (int l = 0; l < n_layer(); ++l) {
      auto own = forms(l);
      const auto equal = std::find_if(known.begin(), known.end(), [&](const auto& other) {
        return before[other.first] == before[l] && other.second == own;
      });
      first[l] = equal != known.end() ? equal->first : l;
      if (first[l] == l) known.emplace(l, std::move(own));
    }
  }
  return first;
}

}  // namespace thermocline::placement
