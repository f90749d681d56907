#include "placement/solver/baselines.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <queue>

#include "placement/solver/layer_fill.h"
#include "placement/solver/layer_tables.h"

namespace thermocline::placement {
namespace {

constexpr std::array<std::string_view, 5> kNames = {"optimal", "frequency-greedy", "proportional",
                                                    "pipeline-only", "powerinfer"};

double TotalSeconds(const SplitProblem& problem, int d) {
  double sum = 0;
  for (const SplitLayer& layer : problem.layers) sum += layer.seconds[d].back();
  return sum;
}

std::vector<int> FastestFirst(const SplitProblem& problem) {
  std::vector<double> seconds;
  for (size_t d = 0; d < problem.devices.size(); ++d) seconds.push_back(TotalSeconds(problem, d));
  std::vector<int> order(problem.devices.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return seconds[a] < seconds[b]; });
  return order;
}

// Blocks of all layers from the hottest on, dealt to one device after the other.
class Dealer {
 public:
  Dealer(const SplitProblem& problem, int item_blocks)
      : problem_(problem),
        item_blocks_(std::max(1, item_blocks)),
        next_(problem.layers.size(), 0),
        split_(problem.layers.size(), LayerSplit(problem.devices.size())),
        reference_(FastestFirst(problem).front()) {}

  // The hottest blocks left to device d while its memory lasts; of layers where `wanted` says so.
  void Deal(int d, const std::vector<bool>& wanted) {
    using Entry = std::pair<double, int>;  // heat; layer, smaller first
    std::priority_queue<Entry> hottest;
    for (size_t l = 0; l < next_.size(); ++l) {
      split_[l][d] = {next_[l], next_[l]};
      if (wanted[l]) Push(static_cast<int>(l), hottest);
    }
    uint64_t left = problem_.devices[d].memory_bytes;
    while (!hottest.empty()) {
      const int l = -hottest.top().second;
      hottest.pop();
      const SplitLayer& layer = problem_.layers[l];
      const int end = std::min(next_[l] + item_blocks_, layer.n_blocks());
      const uint64_t bytes = std::accumulate(layer.block_bytes.begin() + next_[l],
                                             layer.block_bytes.begin() + end, uint64_t{0});
      if (bytes > left) continue;
      left -= bytes;
      next_[l] = split_[l][d].end = end;
      Push(l, hottest);
    }
  }

  void TakeBack(int d) {
    for (size_t l = 0; l < next_.size(); ++l) next_[l] = split_[l][d].begin;
  }

  bool done() const {
    for (size_t l = 0; l < next_.size(); ++l) {
      if (next_[l] < problem_.layers[l].n_blocks()) return false;
    }
    return true;
  }
  const Split& split() const { return split_; }

 private:
  // Heat: seconds per byte on one device, which is proportional to how often a block fires.
  void Push(int l, std::priority_queue<std::pair<double, int>>& hottest) const {
    const SplitLayer& layer = problem_.layers[l];
    if (next_[l] >= layer.n_blocks()) return;
    const int end = std::min(next_[l] + item_blocks_, layer.n_blocks());
    const double bytes = static_cast<double>(std::accumulate(
        layer.block_bytes.begin() + next_[l], layer.block_bytes.begin() + end, uint64_t{0}));
    const std::vector<double>& seconds = layer.seconds[reference_];
    const double heat = (seconds[end] - seconds[next_[l]]) / std::max(bytes, 1.0);
    hottest.push({heat, -l});
  }

  const SplitProblem& problem_;
  const int item_blocks_;
  std::vector<int> next_;  // by layer: the first block not dealt
  Split split_;
  const int reference_;
};

std::optional<Split> FrequencyGreedy(const SplitProblem& problem) {
  Dealer dealer(problem, 1);
  for (const int d : FastestFirst(problem)) {
    dealer.Deal(d, std::vector<bool>(problem.layers.size(), true));
  }
  return dealer.done() ? std::optional(dealer.split()) : std::nullopt;
}

// Inequality 4: C blocks on device d instead of the slowest save C (slow - fast) and cost one
// synchronisation. Devices no faster than the slowest are of its class and hold what is left.
double LeastBlocks(const SplitProblem& problem, const SplitLayer& layer, int d, int slowest) {
  const SplitDevice& device = problem.devices[d];
  const double sync = device.send_s + device.round_trip_s + device.part_s + device.merge_s;
  const double saved = (layer.seconds[slowest].back() - layer.seconds[d].back()) / layer.n_blocks();
  return saved > 0 ? sync / saved : 0;
}

std::optional<Split> PowerInfer(const SplitProblem& problem, int item_blocks) {
  const std::vector<int> order = FastestFirst(problem);
  Dealer dealer(problem, item_blocks);
  for (const int d : order) {
    std::vector<bool> wanted(problem.layers.size(), true);
    dealer.Deal(d, wanted);
    if (d == order.back()) break;
    // The layer furthest below its least part loses d; what it had goes to hotter layers' blocks.
    while (true) {
      double shortest = 1;
      size_t worst = problem.layers.size();
      for (size_t l = 0; l < problem.layers.size(); ++l) {
        const int size = dealer.split()[l][d].size();
        if (!wanted[l] || size == 0) continue;
        const double least = LeastBlocks(problem, problem.layers[l], d, order.back());
        if (size < least && size / least < shortest) {
          shortest = size / least;
          worst = l;
        }
      }
      if (worst == problem.layers.size()) break;
      wanted[worst] = false;
      dealer.TakeBack(d);
      dealer.Deal(d, wanted);
    }
  }
  return dealer.done() ? std::optional(dealer.split()) : std::nullopt;
}

// The least time in which all devices, started together, can do the layer in their room.
std::optional<LayerSplit> Balance(const LayerTables& tables, const SplitPrices& prices,
                                  const std::vector<double>& room) {
  LayerFill fill(tables, prices, std::vector<double>(tables.n_devices(), 0.0), room);
  const double T = fill.Search(0, fill.latest()).T;
  if (T == kNever || fill.CostAt(T) == kNever) return std::nullopt;
  return fill.ranges();
}

std::optional<Split> Proportional(const SplitProblem& problem) {
  const size_t n = problem.devices.size();
  SplitPrices prices{
      .latency = 1, .byte = std::vector<double>(n, 0.0), .busy = std::vector<double>(n, 0.0)};
  std::vector<double> left;
  for (const SplitDevice& device : problem.devices) {
    left.push_back(static_cast<double>(device.memory_bytes));
  }
  std::vector<double> bytes;
  for (const SplitLayer& layer : problem.layers) {
    bytes.push_back(static_cast<double>(
        std::accumulate(layer.block_bytes.begin(), layer.block_bytes.end(), uint64_t{0})));
  }
  double bytes_left = std::accumulate(bytes.begin(), bytes.end(), 0.0);
  Split split;
  for (size_t l = 0; l < problem.layers.size(); ++l) {
    const LayerTables tables(problem, problem.layers[l]);
    std::vector<double> room = left;
    for (double& r : room) r *= bytes[l] / bytes_left;
    std::optional<LayerSplit> ranges = Balance(tables, prices, room);
    if (!ranges) ranges = Balance(tables, prices, left);
    if (!ranges) return std::nullopt;
    const std::vector<double> used = tables.Bytes(*ranges);
    for (size_t d = 0; d < n; ++d) left[d] -= used[d];
    bytes_left -= bytes[l];
    split.push_back(std::move(*ranges));
  }
  return split;
}

Split LeadAlone(const SplitProblem& problem) {
  Split split;
  for (const SplitLayer& layer : problem.layers) {
    split.emplace_back(problem.devices.size())[0] = {0, layer.n_blocks()};
  }
  return split;
}

std::optional<Split> Make(const SplitProblem& problem, SplitPolicy policy, int item_blocks) {
  switch (policy) {
    case SplitPolicy::kOptimal:
      return std::nullopt;
    case SplitPolicy::kFrequencyGreedy:
      return FrequencyGreedy(problem);
    case SplitPolicy::kProportional:
      return Proportional(problem);
    case SplitPolicy::kPipelineOnly:
      return LeadAlone(problem);
    case SplitPolicy::kPowerInfer:
      return PowerInfer(problem, item_blocks);
  }
  return std::nullopt;
}

}  // namespace

std::string_view SplitPolicyName(SplitPolicy policy) { return kNames[static_cast<size_t>(policy)]; }

std::optional<SplitPolicy> ParseSplitPolicy(std::string_view name) {
  const auto found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<SplitPolicy>(found - kNames.begin());
}

std::optional<Split> BaselineSplit(const SplitProblem& problem, SplitPolicy policy,
                                   int item_blocks) {
  std::optional<Split> split = Make(problem, policy, item_blocks);
  if (split && !CheckSplit(problem, *split).ok()) split.reset();
  return split;
}

}  // namespace thermocline::placement
