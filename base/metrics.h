// Counters, gauges and histograms with labels, passed in like the clock and declared beside their
// owner. Updating one is an atomic add; only registering and collecting take a lock.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/mutex.h"

namespace thermocline {

// Name and value pairs, in the order in which they are printed.
using Labels = std::vector<std::pair<std::string, std::string>>;

// Only grows. Thread-safe.
class Counter {
 public:
  void Add(uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

// Goes up and down. Thread-safe.
class Gauge {
 public:
  void Set(double value) { value_.store(value, std::memory_order_relaxed); }
  void Add(double delta) { value_.fetch_add(delta, std::memory_order_relaxed); }
  double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

struct HistogramSnapshot {
  std::vector<double> edges;     // upper bounds, ascending; the bucket above the last is open
  std::vector<uint64_t> counts;  // one per bucket, not cumulative: edges.size() + 1
  double sum = 0;
};

// Counts values by bucket; a value equal to an edge belongs below it. Thread-safe; a snapshot taken
// during updates may miss the latest of them.
class Histogram {
 public:
  explicit Histogram(std::span<const double> edges);
  void Observe(double value);
  HistogramSnapshot Snapshot() const;

 private:
  const std::vector<double> edges_;
  std::vector<std::atomic<uint64_t>> counts_;
  std::atomic<double> sum_{0};
};

enum class MetricType : uint8_t { kCounter, kGauge, kHistogram };

struct MetricSample {
  Labels labels;
  std::variant<double, HistogramSnapshot> value;
};

struct MetricFamily {
  std::string name;
  std::string help;
  MetricType type = MetricType::kGauge;
  std::vector<MetricSample> samples;
};

// Owns the metrics of one process; what it returns lives as long as it does. Thread-safe.
//
// Adding a metric again returns the existing one. A family never holds more than
// kMaxSeriesPerFamily series: later label values share one series whose values read "other".
class Metrics {
 public:
  // HTTP handlers x methods x statuses and workers both stay below this in practice; one family
  // then prints at most some 30 KB.
  static constexpr size_t kMaxSeriesPerFamily = 256;

  Counter& AddCounter(std::string_view name, std::string_view help, Labels labels = {});
  Gauge& AddGauge(std::string_view name, std::string_view help, Labels labels = {});
  // `edges` are those of the first call for `name`.
  Histogram& AddHistogram(std::string_view name, std::string_view help,
                          std::span<const double> edges, Labels labels = {});

  // Families by name, samples by labels.
  std::vector<MetricFamily> Collect() const;

 private:
  using Series =
      std::variant<std::unique_ptr<Counter>, std::unique_ptr<Gauge>, std::unique_ptr<Histogram>>;
  struct Family {
    std::string help;
    MetricType type;
    std::map<Labels, Series> series;
  };

  Family& FamilyOf(std::string_view name, std::string_view help, MetricType type) REQUIRES(mutex_);

  mutable Mutex mutex_;
  std::map<std::string, Family, std::less<>> families_ GUARDED_BY(mutex_);
};

}  // namespace thermocline
