#include "placement/partition.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>

namespace thermocline::placement {
namespace {

struct Instance {
  ModelBytes::Parts parts;
  std::vector<StageRoom> workers;
  uint64_t kv_bytes_per_layer = 0;
};

Instance RandomInstance(uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto draw = [&](uint64_t low, uint64_t high) { return low + random() % (high - low + 1); };
  Instance instance;
  for (uint64_t i = draw(1, 7); i > 0; --i) instance.parts.layers.push_back(draw(10, 60));
  instance.parts.shared = draw(0, 3);
  instance.parts.embed = draw(5, 100);
  const bool tied = draw(0, 1) == 1;
  instance.parts.head = tied ? instance.parts.embed + 1 : draw(5, 100);
  instance.parts.both_ends =
      tied ? instance.parts.head : instance.parts.head + instance.parts.embed;
  if (draw(0, 1) == 1) instance.parts.relay.assign(instance.parts.layers.size(), draw(1, 9));
  instance.kv_bytes_per_layer = draw(0, 20);
  for (uint64_t i = draw(1, 4); i > 0; --i) {
    instance.workers.push_back({double(draw(1, 8)), draw(20, 500)});
  }
  return instance;
}

// Slowest stage, or infinity when a stage does not fit.
double Cost(const Instance& instance, const ModelBytes& model, const Partition& partition) {
  double slowest = 0;
  for (size_t w = 0; w < partition.size(); ++w) {
    const model::LayerRange& layers = partition[w];
    if (layers.begin == layers.end) continue;
    const uint64_t bytes = StageBytes(model, layers, instance.kv_bytes_per_layer);
    if (bytes > instance.workers[w].bytes) return std::numeric_limits<double>::infinity();
    slowest = std::max(slowest, double(model.Streamed(layers)) / instance.workers[w].bytes_per_s);
  }
  return slowest;
}

struct Best {
  double slowest = std::numeric_limits<double>::infinity();
  int n_stages = 0;
};

// Every way to give the workers contiguous, possibly empty, ranges in order.
Best BruteForce(const Instance& instance, const ModelBytes& model) {
  Best best;
  Partition partition(instance.workers.size());
  const int n = model.n_layer();
  const std::function<void(size_t, int)> place = [&](size_t w, int begin) {
    if (w == partition.size()) {
      if (begin != n) return;
      const double cost = Cost(instance, model, partition);
      const int n_stages = int(std::count_if(partition.begin(), partition.end(),
                                             [](const auto& l) { return l.begin < l.end; }));
      if (cost < best.slowest || (cost == best.slowest && n_stages > best.n_stages)) {
        best = {cost, n_stages};
      }
      return;
    }
    for (int end = begin; end <= n; ++end) {
      const bool empty = begin == end;
      partition[w] = {begin, end, !empty && begin == 0, !empty && end == n};
      place(w + 1, end);
    }
  };
  place(0, 0);
  return best;
}

TEST(Partition, IsOptimalOnEverySmallInstance) {
  int n_feasible = 0;
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    const Instance instance = RandomInstance(seed);
    const ModelBytes model(instance.parts);
    const Best best = BruteForce(instance, model);
    const auto partition = PartitionLayers(model, instance.workers, instance.kv_bytes_per_layer);
    ASSERT_EQ(partition.has_value(), std::isfinite(best.slowest)) << "seed " << seed;
    if (!partition) continue;
    ++n_feasible;
    EXPECT_DOUBLE_EQ(Cost(instance, model, *partition), best.slowest) << "seed " << seed;
    int n_stages = 0, next = 0;
    for (const model::LayerRange& layers : *partition) {
      if (layers.begin == layers.end) continue;
      EXPECT_EQ(layers.begin, next) << "seed " << seed;
      EXPECT_EQ(layers.has_embed, layers.begin == 0) << "seed " << seed;
      EXPECT_EQ(layers.has_head, layers.end == model.n_layer()) << "seed " << seed;
      next = layers.end;
      ++n_stages;
    }
    EXPECT_EQ(next, model.n_layer()) << "seed " << seed;
    EXPECT_EQ(n_stages, best.n_stages) << "seed " << seed;
  }
  EXPECT_GT(n_feasible, 500);
}

TEST(Partition, BalancesWhatDoesNotDecideTheBottleneck) {
  // The last layer is the bottleneck whatever the first four workers do.
  const ModelBytes model({.layers = {1, 1, 1, 1, 9}});
  const std::vector<StageRoom> workers(3, {1, 100});
  const auto partition = PartitionLayers(model, workers, 0);
  ASSERT_TRUE(partition.has_value());
  EXPECT_EQ((*partition)[0], (model::LayerRange{0, 2, true, false}));
  EXPECT_EQ((*partition)[1], (model::LayerRange{2, 4, false, false}));
  EXPECT_EQ((*partition)[2], (model::LayerRange{4, 5, false, true}));
}

TEST(Partition, LeavesAWorkerSpareThatWouldOnlySlowThePipeline) {
  const ModelBytes model({.layers = {10, 10}});
  const auto partition = PartitionLayers(model, {{10, 100}, {0.1, 100}, {10, 100}}, 0);
  ASSERT_TRUE(partition.has_value());
  EXPECT_EQ((*partition)[1].begin, (*partition)[1].end);
}

TEST(Partition, KeepsSpareWorkersBeyondTheLayers) {
  const auto partition = PartitionLayers(ModelBytes({.layers = {5}}), {{1, 9}, {1, 9}}, 0);
  ASSERT_TRUE(partition.has_value());
  EXPECT_EQ(partition->size(), 2u);
}

}  // namespace
}  // namespace thermocline::placement
