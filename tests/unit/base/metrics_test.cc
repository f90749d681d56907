#include "base/metrics.h"

#include <gtest/gtest.h>

#include <thread>

namespace thermocline {
namespace {

TEST(MetricsTest, AddingAgainGivesTheSameMetric) {
  Metrics metrics;
  Counter& counter = metrics.AddCounter("a_total", "help", {{"k", "v"}});
  counter.Add(2);
  metrics.AddCounter("a_total", "help", {{"k", "v"}}).Add(3);
  EXPECT_EQ(counter.value(), 5u);
  EXPECT_NE(&counter, &metrics.AddCounter("a_total", "help", {{"k", "w"}}));
}

TEST(MetricsTest, HistogramPutsAnEdgeInTheLowerBucket) {
  constexpr double kEdges[] = {1, 2};
  Metrics metrics;
  Histogram& histogram = metrics.AddHistogram("h", "help", kEdges);
  for (const double value : {0.5, 1.0, 1.5, 2.0, 9.0}) histogram.Observe(value);
  const HistogramSnapshot snapshot = histogram.Snapshot();
  EXPECT_EQ(snapshot.counts, (std::vector<uint64_t>{2, 2, 1}));
  EXPECT_DOUBLE_EQ(snapshot.sum, 14.0);
}

TEST(MetricsTest, AFullFamilyFilesNewLabelsUnderOther) {
  Metrics metrics;
  for (int i = 0; i < 1000; ++i) {
    metrics.AddCounter("c_total", "help", {{"id", std::to_string(i)}}).Add();
  }
  const auto families = metrics.Collect();
  ASSERT_EQ(families.size(), 1u);
  EXPECT_EQ(families[0].samples.size(), Metrics::kMaxSeriesPerFamily);
  double total = 0, other = 0;
  for (const MetricSample& sample : families[0].samples) {
    total += std::get<double>(sample.value);
    if (sample.labels[0].second == "other") other = std::get<double>(sample.value);
  }
  EXPECT_EQ(total, 1000);
  EXPECT_EQ(other, 1000 - (Metrics::kMaxSeriesPerFamily - 1));
}

TEST(MetricsTest, UpdatesFromManyThreadsAddUp) {
  constexpr double kEdges[] = {10};
  Metrics metrics;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&metrics, &kEdges] {
      for (int i = 0; i < 1000; ++i) {
        metrics.AddCounter("c_total", "help").Add();
        metrics.AddGauge("g", "help").Add(0.5);
        metrics.AddHistogram("h", "help", kEdges).Observe(1);
        if (i % 100 == 0) (void)metrics.Collect();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(metrics.AddCounter("c_total", "help").value(), 4000u);
  EXPECT_EQ(metrics.AddGauge("g", "help").value(), 2000);
  EXPECT_EQ(metrics.AddHistogram("h", "help", kEdges).Snapshot().counts[0], 4000u);
}

}  // namespace
}  // namespace thermocline
