#include "base/metrics.h"

#include <algorithm>

#include "base/check.h"

namespace thermocline {
namespace {

// The labels under which a full family files a series that it does not know yet.
Labels Overflow(Labels labels) {
  for (auto& [name, value] : labels) value = "other";
  return labels;
}

template <typename SeriesMap>
Labels BoundedLabels(const SeriesMap& series, Labels labels) {
  const bool full = series.size() + 1 >= Metrics::kMaxSeriesPerFamily;
  if (!full || series.contains(labels)) return labels;
  return Overflow(std::move(labels));
}

template <typename Metric, typename SeriesMap, typename Make>
Metric& FindOrMake(SeriesMap& series, Labels labels, const Make& make) {
  const Labels key = BoundedLabels(series, std::move(labels));
  auto it = series.find(key);
  if (it == series.end()) it = series.emplace(key, make()).first;
  return *std::get<std::unique_ptr<Metric>>(it->second);
}

}  // namespace

Histogram::Histogram(std::span<const double> edges)
    : edges_(edges.begin(), edges.end()), counts_(edges.size() + 1) {
  CHECK(std::is_sorted(edges_.begin(), edges_.end()));
}

void Histogram::Observe(double value) {
  const auto bucket = std::lower_bound(edges_.begin(), edges_.end(), value) - edges_.begin();
  counts_[static_cast<size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(value, std::memory_order_relaxed);
}

HistogramSnapshot Histogram::Snapshot() const {
  HistogramSnapshot snapshot{edges_, {}, sum_.load(std::memory_order_relaxed)};
  for (const auto& count : counts_) {
    snapshot.counts.push_back(count.load(std::memory_order_relaxed));
  }
  return snapshot;
}

Metrics::Family& Metrics::FamilyOf(std::string_view name, std::string_view help, MetricType type) {
  auto it = families_.find(name);
  if (it == families_.end()) {
    it = families_.emplace(std::string(name), Family{std::string(help), type, {}}).first;
  }
  CHECK(it->second.type == type);
  return it->second;
}

Counter& Metrics::AddCounter(std::string_view name, std::string_view help, Labels labels) {
  const MutexLock lock(mutex_);
  auto& series = FamilyOf(name, help, MetricType::kCounter).series;
  return FindOrMake<Counter>(series, std::move(labels), [] { return std::make_unique<Counter>(); });
}

Gauge& Metrics::AddGauge(std::string_view name, std::string_view help, Labels labels) {
  const MutexLock lock(mutex_);
  auto& series = FamilyOf(name, help, MetricType::kGauge).series;
  return FindOrMake<Gauge>(series, std::move(labels), [] { return std::make_unique<Gauge>(); });
}

Histogram& Metrics::AddHistogram(std::string_view name, std::string_view help,
                                 std::span<const double> edges, Labels labels) {
  const MutexLock lock(mutex_);
  auto& series = FamilyOf(name, help, MetricType::kHistogram).series;
  return FindOrMake<Histogram>(series, std::move(labels),
                               [&] { return std::make_unique<Histogram>(edges); });
}

std::vector<MetricFamily> Metrics::Collect() const {
  const MutexLock lock(mutex_);
  std::vector<MetricFamily> result;
  for (const auto& [name, family] : families_) {
    MetricFamily out{name, family.help, family.type, {}};
    for (const auto& [labels, series] : family.series) {
      MetricSample sample{labels, 0.0};
      if (const auto* counter = std::get_if<std::unique_ptr<Counter>>(&series)) {
        sample.value = static_cast<double>((*counter)->value());
      } else if (const auto* gauge = std::get_if<std::unique_ptr<Gauge>>(&series)) {
        sample.value = (*gauge)->value();
      } else {
        sample.value = std::get<std::unique_ptr<Histogram>>(series)->Snapshot();
      }
      out.samples.push_back(std::move(sample));
    }
    result.push_back(std::move(out));
  }
  return result;
}

}  // namespace thermocline
