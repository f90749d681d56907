#include "placement/solver/cluster_bound.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/unit/placement/split_oracle.h"

namespace thermocline::placement {
namespace {

constexpr double kNone = std::numeric_limits<double>::infinity();
constexpr int kBlocks = 3;

// Unlike devices, layers of three blocks; what a layer takes of its lead, and a helper of its lead,
// leaves some no memory to lead many.
class RandomStages final : public StageModel {
 public:
  explicit RandomStages(uint64_t seed) : random_(seed) {
    n_layer_ = static_cast<int>(2 + random_() % 2);
    const auto n_devices = 2 + random_() % 2;
    for (size_t d = 0; d < n_devices; ++d) {
      speeds_.push_back(std::pow(4, Draw()));
      memory_.push_back(static_cast<uint64_t>((40 + 160 * Draw()) * n_layer_ / 2));
    }
    for (int l = 0; l < n_layer_; ++l) {
      lead_bytes_.push_back(random_() % 40);
      fixed_s_.push_back(Draw());
      std::vector<double>& work = work_.emplace_back();
      for (int k = 0; k < kBlocks; ++k) work.push_back(0.2 + Draw());
      std::sort(work.rbegin(), work.rend());
    }
    helper_bytes_ = random_() % 10;
    link_s_ = std::pow(10, -2 * Draw());
  }

  int n_layer() const override { return n_layer_; }
  int n_devices() const override { return static_cast<int>(speeds_.size()); }
  int DeviceType(int device) const override { return device; }
  std::optional<SplitProblem> Problem(int begin, int end,
                                      const std::vector<int>& group) const override {
    SplitProblem problem = Times(begin, end, group);
    uint64_t taken = helper_bytes_ * (group.size() - 1);
    for (int l = begin; l < end; ++l) taken += lead_bytes_[l];
    if (taken > problem.devices[0].memory_bytes) return std::nullopt;
    problem.devices[0].memory_bytes -= taken;
    return problem;
  }
  SplitProblem Times(int begin, int end, const std::vector<int>& group) const override {
    SplitProblem problem;
    for (size_t i = 0; i < group.size(); ++i) {
      SplitDevice& device = problem.devices.emplace_back();
      device.memory_bytes = memory_[group[i]];
      if (i == 0) continue;
      device.send_s = device.send_busy_s = 0.1 * link_s_;
      device.round_trip_s = link_s_;
      device.merge_s = 0.05 * link_s_;
    }
    for (int l = begin; l < end; ++l) {
      SplitLayer& layer = problem.layers.emplace_back();
      layer.fixed_s = fixed_s_[l] / speeds_[group[0]];
      layer.block_bytes.assign(kBlocks, 20);
      for (const int d : group) {
        std::vector<double>& seconds = layer.seconds.emplace_back(1, 0.0);
        for (const double work : work_[l]) seconds.push_back(seconds.back() + work / speeds_[d]);
      }
    }
    return problem;
  }
  uint64_t MostMemory(int device) const override { return memory_[device]; }
  uint64_t LeadBytes(int layer, int) const override { return lead_bytes_[layer]; }
  uint64_t HelperBytes(int) const override { return helper_bytes_; }
  double HopSeconds(int, int) const override { return link_s_; }

 private:
  double Draw() { return std::uniform_real_distribution<double>(0, 1)(random_); }

  std::mt19937_64 random_;
  int n_layer_ = 0;
  std::vector<double> speeds_, fixed_s_;
  std::vector<uint64_t> memory_, lead_bytes_;
  std::vector<std::vector<double>> work_;
  uint64_t helper_bytes_ = 0;
  double link_s_ = 0;
};

// The least value of any stages from `begin` on, of devices that are not in `used`, and of any
// splits of them in intervals; infinite where none fits.
double BestFrom(const StageModel& model, double latency, int begin, unsigned used) {
  if (begin == model.n_layer()) return 0;
  const auto n = static_cast<unsigned>(model.n_devices());
  double best = kNone;
  for (unsigned members = 1; members < 1U << n; ++members) {
    if ((members & used) != 0) continue;
    for (unsigned lead = 0; lead < n; ++lead) {
      if ((members >> lead & 1) == 0) continue;
      std::vector<int> group = {static_cast<int>(lead)};
      for (unsigned d = 0; d < n; ++d) {
        if (d != lead && (members >> d & 1) != 0) group.push_back(static_cast<int>(d));
      }
      for (int end = begin + 1; end <= model.n_layer(); ++end) {
        const auto problem = model.Problem(begin, end, group);
        if (!problem) continue;
        const double stage = BestValueByBruteForce(*problem, {.latency = latency});
        const double rest = stage < kNone ? BestFrom(model, latency, end, used | members) : kNone;
        const double hop = begin > 0 ? latency * model.HopSeconds(0, 0) : 0;
        best = std::min(best, latency > 0 ? hop + stage + rest : std::max(stage, rest));
      }
    }
  }
  return best;
}

TEST(ClusterBound, NoStagesAreBelowIt) {
  int n_solved = 0, n_tight = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    const RandomStages model(seed);
    for (const double latency : {1.0, 0.0}) {
      const double best = BestFrom(model, latency, 0, 0);
      if (best == kNone) continue;
      const double bound = ClusterBound(model, {.latency = latency});
      EXPECT_GE(bound, 0);
      EXPECT_LE(bound, best * (1 + 1e-9)) << "seed " << seed << " latency " << latency;
      ++n_solved;
      n_tight += bound > 0.8 * best;
    }
  }
  EXPECT_GE(n_solved, 300);
  EXPECT_GE(n_tight, n_solved / 2);
}

}  // namespace
}  // namespace thermocline::placement
