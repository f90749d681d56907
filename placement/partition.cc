#include "placement/partition.h"

#include <algorithm>
#include <limits>

namespace thermocline::placement {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// How good a split of a prefix of the layers is, smaller first.
struct Score {
  double slowest = kInfinity;
  int n_stages = 0;
  double squares = 0;

  bool reachable() const { return slowest < kInfinity; }
};

// While the bottleneck is searched only `slowest` counts; once it is known every split under it is
// equally fast and the rest decides.
struct BySlowest {
  bool operator()(const Score& a, const Score& b) const { return a.slowest < b.slowest; }
};
struct ByBalance {
  bool operator()(const Score& a, const Score& b) const {
    if (a.reachable() != b.reachable()) return a.reachable();
    if (a.n_stages != b.n_stages) return a.n_stages > b.n_stages;
    return a.squares < b.squares;
  }
};

class Table {
 public:
  Table(const ModelBytes& model, const std::vector<StageRoom>& workers, uint64_t kv_bytes_per_layer)
      : model_(model),
        workers_(workers),
        kv_bytes_per_layer_(kv_bytes_per_layer),
        n_(model.n_layer()),
        best_((workers.size() + 1) * (n_ + 1)),
        cut_(best_.size(), 0) {}

  // Fills best(w, end): the first `end` layers on the first `w` workers, no stage above `limit`.
  template <typename Better>
  void Solve(double limit, Better better) {
    std::fill(best_.begin(), best_.end(), Score());
    At(0, 0).slowest = 0;
    for (size_t w = 1; w <= workers_.size(); ++w) {
      for (int end = 0; end <= n_; ++end) {  // the worker stays spare
        At(w, end) = At(w - 1, end);
        cut_[Index(w, end)] = end;
      }
      for (int begin = 0; begin < n_; ++begin) {
        if (At(w - 1, begin).reachable()) Extend(w, begin, limit, better);
      }
    }
  }

  const Score& result() const { return best_[Index(workers_.size(), n_)]; }

  Partition Trace() const {
    Partition partition(workers_.size());
    int end = n_;
    for (size_t w = workers_.size(); w > 0; --w) {
      const int begin = cut_[Index(w, end)];
      partition[w - 1] = Range(begin, end);
      end = begin;
    }
    return partition;
  }

 private:
  size_t Index(size_t w, int end) const { return w * (n_ + 1) + end; }
  Score& At(size_t w, int end) { return best_[Index(w, end)]; }

  model::LayerRange Range(int begin, int end) const {
    if (begin == end) return {begin, end, false, false};
    return {begin, end, begin == 0, end == n_};
  }

  template <typename Better>
  void Extend(size_t w, int begin, double limit, Better better) {
    const StageRoom& worker = workers_[w - 1];
    const Score before = At(w - 1, begin);
    for (int end = begin + 1; end <= n_; ++end) {
      const model::LayerRange layers = Range(begin, end);
      const double seconds = static_cast<double>(model_.Streamed(layers)) / worker.bytes_per_s;
      if (seconds > limit || StageBytes(model_, layers, kv_bytes_per_layer_) > worker.bytes) break;
      const Score after{std::max(before.slowest, seconds), before.n_stages + 1,
                        before.squares + seconds * seconds};
      if (!better(after, At(w, end))) continue;
      At(w, end) = after;
      cut_[Index(w, end)] = begin;
    }
  }

  const ModelBytes& model_;
  const std::vector<StageRoom>& workers_;
  const uint64_t kv_bytes_per_layer_;
  const int n_;
  std::vector<Score> best_;
  std::vector<int> cut_;  // where the last worker of best_ begins
};

}  // namespace

uint64_t StageBytes(const ModelBytes& model, const model::LayerRange& layers,
                    uint64_t kv_bytes_per_layer) {
  return model.Weights(layers) + model.Relay(layers) + model.Predictors(layers) +
         kv_bytes_per_layer * static_cast<uint64_t>(layers.end - layers.begin);
}

std::optional<Partition> PartitionLayers(const ModelBytes& model,
                                         const std::vector<StageRoom>& workers,
                                         uint64_t kv_bytes_per_layer) {
  Table table(model, workers, kv_bytes_per_layer);
  table.Solve(kInfinity, BySlowest());
  const double slowest = table.result().slowest;
  if (!table.result().reachable()) return std::nullopt;
  table.Solve(slowest, ByBalance());
  return table.Trace();
}

}  // namespace thermocline::placement
