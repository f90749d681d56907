#include "placement/value_bound.h"

#include <algorithm>
#include <vector>

#include "placement/cluster_stages.h"
#include "placement/search_aims.h"
#include "placement/solver/cluster_bound.h"

namespace thermocline::placement {
namespace {

class Bounds {
 public:
  Bounds(BatchCosts& costs, int64_t n_pages) : costs_(costs), n_pages_(n_pages) {}

  // Of a step of so many sequences.
  double Step(int64_t n_sequences) {
    return ClusterBound(StagesOf(n_sequences), {1}, costs_.options().stop);
  }

  // Of a round of all streams. Of the sizes of batches each has a rough bound, and the one whose is
  // the least, which counts, a better one, until that is the least.
  double Round(int64_t n_streams) {
    std::vector<Candidate> candidates;
    for (const Batching& batching :
         BatchingsOf(n_streams, costs_.inputs().cluster.workers.size())) {
      candidates.push_back({batching, Rough(batching)});
    }
    while (true) {
      Candidate& least = *std::min_element(
          candidates.begin(), candidates.end(),
          [](const Candidate& a, const Candidate& b) { return a.bound < b.bound; });
      if (least.is_final) return least.bound;
      least.bound = std::max(least.bound, Thorough(least.batching));
      least.is_final = true;
    }
  }

 private:
  struct Candidate {
    Batching batching;
    double bound = 0;
    bool is_final = false;
  };

  ClusterStages StagesOf(int64_t n_sequences) {
    return {costs_, n_sequences, LeastParts::kIgnored, n_pages_};
  }
  // A round is no shorter than a step of one batch, nor than what the busiest does for all.
  double Rough(const Batching& batching) {
    const ClusterStages stages = StagesOf(batching.n_sequences);
    return std::max(RoughClusterBound(stages, {1}),
                    static_cast<double>(batching.n_batches) * RoughClusterBound(stages, {0}));
  }
  double Thorough(const Batching& batching) {
    const double step_s = Step(batching.n_sequences);
    if (batching.n_batches == 1) return step_s;
    const ClusterStages stages = StagesOf(batching.n_sequences);
    const double busiest_s = ClusterBound(stages, {0}, costs_.options().stop);
    return std::max(step_s, static_cast<double>(batching.n_batches) * busiest_s);
  }

  BatchCosts& costs_;
  const int64_t n_pages_;
};

}  // namespace

double ValueBound(BatchCosts& costs, int64_t n_pages) {
  const double latency = costs.options().latency_weight;
  const int64_t n_streams = StreamsOf(costs.options());
  Bounds bounds(costs, n_pages);
  // A round of one stream is its step.
  if (latency >= 1 || n_streams == 1) return bounds.Step(1);
  const double alone_s = latency > 0 ? bounds.Step(1) : 0;
  return latency * alone_s +
         (1 - latency) * bounds.Round(n_streams) / static_cast<double>(n_streams);
}

}  // namespace thermocline::placement
