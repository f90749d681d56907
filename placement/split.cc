// SplitProportionally: pages of KV, then the exact partition, then a reason for each stage.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/str.h"
#include "base/units.h"
#include "placement/context.h"
#include "placement/model_bytes.h"
#include "placement/partition.h"
#include "placement/plan.h"

namespace thermocline::placement {
namespace {

// Workers that did not measure their bandwidth count as the mean of those that did.
std::vector<StageRoom> RoomsOf(const ClusterProfile& cluster, uint64_t overhead_bytes) {
  double sum = 0;
  int n_known = 0;
  for (const WorkerProfile& worker : cluster.workers) {
    if (!(worker.read_bytes_per_s.value > 0)) continue;
    sum += worker.read_bytes_per_s.value;
    ++n_known;
  }
  const double mean = n_known > 0 ? sum / n_known : 1.0;
  std::vector<StageRoom> rooms;
  for (const WorkerProfile& worker : cluster.workers) {
    rooms.push_back({worker.read_bytes_per_s.value > 0 ? worker.read_bytes_per_s.value : mean,
                     worker.memory_bytes - std::min(worker.memory_bytes, overhead_bytes)});
  }
  return rooms;
}

// Bytes of layers and head that are left when every worker in turn takes as many whole layers as it
// can hold.
uint64_t UnplacedBytes(const ModelBytes& model, const std::vector<StageRoom>& rooms,
                       uint64_t kv_bytes_per_layer) {
  int begin = 0;
  const int n = model.n_layer();
  for (const StageRoom& room : rooms) {
    int end = begin;
    while (end < n && StageBytes(model, {begin, end + 1, begin == 0, end + 1 == n},
                                 kv_bytes_per_layer) <= room.bytes) {
      ++end;
    }
    begin = end;
  }
  if (begin >= n) return 0;
  return StageBytes(model, {begin, n, begin == 0, true}, kv_bytes_per_layer);
}

Status DoesNotFit(const ModelBytes& model, const ClusterProfile& cluster,
                  const std::vector<StageRoom>& rooms, uint64_t overhead_bytes,
                  uint64_t kv_bytes_per_layer) {
  uint64_t offered = 0;
  for (const StageRoom& room : rooms) offered += room.bytes;
  std::string detail;
  for (const WorkerProfile& worker : cluster.workers) {
    detail += Str(detail.empty() ? "" : ", ", "worker ", worker.id, " ", Printable(worker.host),
                  ": ", FormatBytes(worker.memory_bytes));
  }
  const uint64_t needed = StageBytes(model, {0, model.n_layer(), true, true}, kv_bytes_per_layer);
  return ResourceExhausted(Str("model does not fit: needs ", FormatBytes(needed),
                               ", workers offer ", FormatBytes(offered), "; missing ",
                               FormatBytes(UnplacedBytes(model, rooms, kv_bytes_per_layer)),
                               " (in whole layers; ", FormatBytes(overhead_bytes),
                               " of each worker's memory are kept for itself; ", detail, ")"));
}

// The most pages in [least, wanted] that some split can hold; 0 when not even `least` fits.
int64_t MostPages(const ModelBytes& model, const std::vector<StageRoom>& rooms, uint64_t page_bytes,
                  int64_t least, int64_t wanted) {
  const auto fits = [&](int64_t n_pages) {
    return PartitionLayers(model, rooms, page_bytes * n_pages).has_value();
  };
  if (fits(wanted)) return wanted;
  if (!fits(least)) return 0;
  int64_t good = least, bad = wanted;
  while (bad - good > 1) {
    const int64_t middle = good + (bad - good) / 2;
    (fits(middle) ? good : bad) = middle;
  }
  return good;
}

std::string ReasonOf(const StagePlan& stage, const ModelBytes& model, const WorkerProfile& worker,
                     const StageRoom& room, uint64_t overhead_bytes) {
  const int n_layers = stage.layers.end - stage.layers.begin;
  const uint64_t streamed = model.Streamed(stage.layers);
  const uint64_t whole = model.Streamed({0, model.n_layer(), true, true});
  const double percent = 100.0 * double(streamed) / double(std::max<uint64_t>(whole, 1));
  std::string reason = Str(n_layers, " of ", model.n_layer(), " layers, ", std::lround(percent),
                           " % of the bytes a token reads (", FormatBytes(streamed), ")");
  if (worker.read_bytes_per_s.value > 0) {
    reason += Str(", at ", FormatBytes(uint64_t(room.bytes_per_s)), "/s ",
                  std::lround(1e6 * double(streamed) / room.bytes_per_s), " us");
  } else {
    reason += ", bandwidth not measured";
  }
  reason += Str("; memory ", FormatBytes(stage.weights_bytes), " weights + ");
  if (stage.relay_bytes > 0) reason += Str(FormatBytes(stage.relay_bytes), " re-laid rows + ");
  if (stage.predictor_bytes > 0) {
    reason += Str(FormatBytes(stage.predictor_bytes), " predictors + ");
  }
  return reason + Str(FormatBytes(stage.kv_bytes), " KV + ", FormatBytes(overhead_bytes),
                      " for itself, of ", FormatBytes(worker.memory_bytes));
}

Status CheckCluster(const model::ModelConfig& config, const ClusterProfile& cluster) {
  if (cluster.workers.empty()) return InvalidArgument("cluster has no workers");
  if (config.n_layer < 1) {
    return InvalidArgument(Str("model has no layers:", Kv("n_layer", config.n_layer)));
  }
  return OkStatus();
}

}  // namespace

uint64_t OverheadBytes(const model::ModelConfig& config, int max_step_tokens) {
  // Rows alive at once in one layer: x, its norm, attention out, ffn out and both ends of the link
  // (6 n_embd), q and attention (2 n_embd_q), k and v (2 n_embd_kv), gate, up and their product
  // (3 n_ff), F32.
  const uint64_t row_elems = 6 * uint64_t(config.n_embd) + 2 * uint64_t(config.n_embd_q()) +
                             2 * uint64_t(config.n_embd_kv()) + 3 * uint64_t(config.n_ff);
  // A stage's scratch never has fewer rows than a block of logits.
  const uint64_t n_rows = uint64_t(std::max(max_step_tokens, kLogitsBlockRows));
  // Of the head: x, its norm and the logits, F32; of the sampler, which looks at one row: a logit,
  // a token id and a double of weight per token of the vocabulary.
  const uint64_t head_elems = kLogitsBlockRows * (2 * uint64_t(config.n_embd) + config.n_vocab);
  return kRuntimeBytes + (n_rows * row_elems + head_elems) * sizeof(float) +
         16 * uint64_t(config.n_vocab);
}

uint64_t KvPageBytes(const model::ModelConfig& config, const KvBudget& kv) {
  return 2 * uint64_t(kv.page_tokens) * RowBytes(kv.dtype, uint64_t(config.n_embd_kv()));
}

Result<Plan> SplitProportionally(const model::ModelConfig& config,
                                 const model::WeightIndex& weights, const ClusterProfile& cluster,
                                 const PlanRequest& request) {
  TC_RETURN_IF_ERROR(CheckCluster(config, cluster));
  TC_ASSIGN_OR_RETURN(const ContextDemand demand, DemandOf(config, request));
  const ModelBytes model = ModelBytes::Of(config, weights, request.ffn);
  const uint64_t overhead = OverheadBytes(config, request.max_step_tokens);
  const std::vector<StageRoom> rooms = RoomsOf(cluster, overhead);
  const uint64_t page_bytes = KvPageBytes(config, request.kv);
  const int64_t n_pages =
      MostPages(model, rooms, page_bytes, demand.least_pages, demand.wanted_pages);
  if (n_pages == 0) {
    return DoesNotFit(model, cluster, rooms, overhead, page_bytes * demand.least_pages);
  }
  const auto partition = PartitionLayers(model, rooms, page_bytes * n_pages);
  CHECK(partition.has_value());

  Plan plan{.epoch = request.epoch,
            .model_fingerprint = request.model_fingerprint,
            .n_layer = config.n_layer,
            .stages = {},
            .link = request.link,
            .wire = request.wire,
            .kv = request.kv,
            .n_ctx = demand.ContextOf(n_pages, request.kv.page_tokens)};
  plan.kv.n_pages = n_pages;
  for (size_t w = 0; w < partition->size(); ++w) {
    const model::LayerRange& layers = (*partition)[w];
    if (layers.begin == layers.end) continue;
    StagePlan stage{.lead = cluster.workers[w].id,
                    .layers = layers,
                    .weights_bytes = model.Weights(layers),
                    .relay_bytes = model.Relay(layers),
                    .predictor_bytes = model.Predictors(layers),
                    .kv_bytes = page_bytes * n_pages * uint64_t(layers.end - layers.begin),
                    .reason = ""};
    stage.reason = ReasonOf(stage, model, cluster.workers[w], rooms[w], overhead);
    plan.stages.push_back(std::move(stage));
  }
  return plan;
}

}  // namespace thermocline::placement
