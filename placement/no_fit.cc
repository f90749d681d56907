#include "placement/no_fit.h"

#include <algorithm>
#include <string>
#include <vector>

#include "base/str.h"
#include "base/units.h"
#include "placement/cluster_stages.h"
#include "placement/enough_memory.h"
#include "placement/solver/stage_search.h"

namespace thermocline::placement {
namespace {

bool HoldsRowsAsTheyAre(const WorkerProfile& worker) {
  return worker.neuron_rows == NeuronRows::kAsIs;
}

// What rows in 8 bits can take less, on workers that hold them so.
uint64_t MostSaved(const BatchCosts& costs, const model::LayerRange& all) {
  const auto& workers = costs.inputs().cluster.workers;
  uint64_t most = 0;
  for (const WorkerProfile& worker : workers) {
    most = std::max(most, costs.bytes().WholePart(all, worker.neuron_rows).saved);
  }
  return most;
}

// Whether stages of whole layers, of one worker each, fit.
bool WholeLayersFit(const ClusterStages& stages, const std::atomic<bool>* stop) {
  return SearchStages(stages, {.inner = {.policy = SplitPolicy::kPipelineOnly},
                               .max_group = 1,
                               .with_bound = false,
                               .stop = stop})
      .ok();
}

bool TriesWholeLayers(SplitPolicy policy) {
  return policy == SplitPolicy::kOptimal || policy == SplitPolicy::kPipelineOnly;
}

// The --memory that would do.
std::string EnoughText(BatchCosts& costs, int64_t n_pages) {
  const PlannerInputs& inputs = costs.inputs();
  const PlannerOptions& options = costs.options();
  const ClusterStages model(costs, 1, LeastParts::kIgnored, n_pages);
  const size_t n_workers = inputs.cluster.workers.size();
  ClusterProfile other = inputs.cluster;
  const PlannerInputs others{inputs.config, inputs.weights, inputs.sparsity, inputs.heats, other};
  BatchCosts other_costs(others, options, PairWires::Of(options.request, other));
  const auto fits = [&](uint64_t memory_bytes) {
    for (WorkerProfile& worker : other.workers) worker.memory_bytes = memory_bytes;
    return WholeLayersFit(ClusterStages(other_costs, 1, LeastParts::kIgnored, n_pages),
                          options.stop);
  };
  const bool all_as_is =
      std::all_of(inputs.cluster.workers.begin(), inputs.cluster.workers.end(), HoldsRowsAsTheyAre);
  const uint64_t mib =
      EnoughMebibytes(model.bytes(), model.overhead(), model.kv_bytes({0, 1, false, false}),
                      n_workers, all_as_is ? SomeRows::kAsIs : SomeRows::kIn8Bits, fits);
  const bool all_have_it =
      std::all_of(inputs.cluster.workers.begin(), inputs.cluster.workers.end(),
                  [&](const WorkerProfile& worker) { return worker.memory_bytes / kMiB >= mib; });
  if (all_have_it) return "";
  return Str("; --memory ", mib, "M",
             n_workers == 1 ? "" : Str(" of each of ", n_workers, " workers"), " is enough",
             TriesWholeLayers(options.policy)
                 ? " ("
                 : " in whole layers (--policy pipeline-only or optimal; ",
             "of a --cluster file: `memory: ", mib, "M`)");
}

// Of workers that have room for all of a model together: which of its pieces has no place.
class Pieces {
 public:
  Pieces(const ClusterStages& model, const std::vector<WorkerProfile>& workers)
      : model_(model), workers_(workers) {}

  // "..., and whole layers at most fit 4 on each of 4 workers of 1.0 GiB, ...: 2 of 18 have no
  // place (420.0 MiB or more)"
  std::string Text() const {
    const uint64_t layer = LeastLayer();
    const std::string piece =
        Str("a layer takes ", FormatBytes(layer), model_.kv_bytes(kOne) > 0 ? " with its KV" : "");
    const std::vector<Kind> kinds = Kinds();
    int n_held = 0;
    for (const Kind& kind : kinds) n_held += kind.n_workers * kind.n_layers;
    const int n_left = model_.n_layer() - n_held;
    if (n_left > 0) {
      return Str(piece, ", and whole layers at most fit ", KindsText(kinds), ": ", n_left, " of ",
                 model_.n_layer(), " have no place (",
                 FormatBytes(layer * static_cast<uint64_t>(n_left)), " or more)");
    }
    const int n = model_.n_layer();
    for (const auto& [layers, name] :
         {std::pair{model_.LayersOf(n - 1, n), "last layer with the head"},
          std::pair{model_.LayersOf(0, 1), "first layer with the embedding"}}) {
      const std::string text = NobodyHolds(layers, name);
      if (!text.empty()) return text;
    }
    return Str("not in pieces that fit: ", piece, ", the embedding ",
               FormatBytes(EndBytes({0, 1, true, false})), " and the head ",
               FormatBytes(EndBytes({n - 1, n, false, true})),
               " more, and whole layers at most fit ", KindsText(kinds));
  }

 private:
  static constexpr model::LayerRange kOne = {0, 1, false, false};
  // Beyond so many only all together are told.
  static constexpr size_t kMostKinds = 4;

  // Workers that have the same room.
  struct Kind {
    const WorkerProfile* worker;
    int n_workers = 0;
    int n_layers = 0;  // that each can hold at most, in whatever place
  };

  uint64_t HeldBytes(const model::LayerRange& layers, const WorkerProfile& worker) const {
    return model_.bytes().WholePart(layers, worker.neuron_rows).sum() + model_.kv_bytes(layers);
  }
  uint64_t NeededBytes(const model::LayerRange& layers, const WorkerProfile& worker) const {
    return HeldBytes(layers, worker) + OwnBytes(layers, worker);
  }

  uint64_t OwnBytes(const model::LayerRange& layers, const WorkerProfile& worker) const {
    return model_.overhead().MostOfLead(layers, 0, HolderOf(worker));
  }

  uint64_t LeastLayer() const {
    uint64_t least = UINT64_MAX;
    for (const WorkerProfile& worker : workers_) {
      for (int layer = 0; layer < model_.n_layer(); ++layer) {
        least = std::min(least, HeldBytes({layer, layer + 1, false, false}, worker));
      }
    }
    return least;
  }

  // What an end of the model adds to its layer.
  uint64_t EndBytes(const model::LayerRange& layers) const {
    return model_.bytes().Weights(layers) -
           model_.bytes().Weights({layers.begin, layers.end, false, false});
  }

  // Neighbours, wherever they stand. A stage at an end has embedding or head, but frames to or from
  // one other only.
  bool CanHold(int n_layers, const WorkerProfile& worker) const {
    const auto fits = [&](const model::LayerRange& layers) {
      return NeededBytes(layers, worker) <= worker.memory_bytes;
    };
    for (int begin = 0; begin + n_layers <= model_.n_layer(); ++begin) {
      const int end = begin + n_layers;
      if (fits({begin, end, false, false}) || fits(model_.LayersOf(begin, end))) return true;
    }
    return false;
  }

  // Of whoever needs least for a stage of whole layers, wherever it stands.
  uint64_t LeastOwn() const {
    const int n = model_.n_layer();
    uint64_t least = UINT64_MAX;
    for (const WorkerProfile& worker : workers_) {
      for (const model::LayerRange& layers :
           {kOne, model_.LayersOf(0, 1), model_.LayersOf(n - 1, n)}) {
        least = std::min(least, OwnBytes(layers, worker));
      }
    }
    return least;
  }

  std::vector<Kind> Kinds() const {
    std::vector<Kind> kinds;
    for (const WorkerProfile& worker : workers_) {
      const auto same = std::find_if(kinds.begin(), kinds.end(), [&](const Kind& kind) {
        return kind.worker->memory_bytes == worker.memory_bytes &&
               kind.worker->neuron_rows == worker.neuron_rows &&
               HolderOf(*kind.worker) == HolderOf(worker);
      });
      if (same != kinds.end()) {
        ++same->n_workers;
        continue;
      }
      Kind& kind = kinds.emplace_back(Kind{.worker = &worker, .n_workers = 1});
      while (kind.n_layers < model_.n_layer() && CanHold(kind.n_layers + 1, worker)) {
        ++kind.n_layers;
      }
    }
    return kinds;
  }

  // "4 on each of 4 workers of 1.0 GiB, each beside 90.0 MiB or more for itself"
  std::string KindsText(const std::vector<Kind>& kinds) const {
    uint64_t least_own = UINT64_MAX, most_own = 0;
    for (const Kind& kind : kinds) {
      least_own = std::min(least_own, OwnBytes(kOne, *kind.worker));
      most_own = std::max(most_own, OwnBytes(kOne, *kind.worker));
    }
    const std::string own = Str(", each beside ", least_own < most_own ? "up to " : "",
                                FormatBytes(most_own), " for itself");
    if (kinds.size() > kMostKinds) {
      int n_layers = 0;
      for (const Kind& kind : kinds) n_layers += kind.n_workers * kind.n_layers;
      return Str(n_layers, " on ", workers_.size(), " workers", own);
    }
    std::string text;
    for (const Kind& kind : kinds) {
      text += Str(text.empty() ? "" : ", ", kind.n_layers, " on ",
                  kind.n_workers == 1 ? Str("worker ", kind.worker->id)
                                      : Str("each of ", kind.n_workers, " workers"),
                  " of ", FormatBytes(kind.worker->memory_bytes));
    }
    return text + own;
  }

  // "" where somebody does.
  std::string NobodyHolds(const model::LayerRange& layers, const char* name) const {
    const WorkerProfile* nearest = nullptr;
    uint64_t least_missing = UINT64_MAX;
    for (const WorkerProfile& worker : workers_) {
      const uint64_t needed = NeededBytes(layers, worker);
      if (needed <= worker.memory_bytes) return "";
      if (needed - worker.memory_bytes >= least_missing) continue;
      least_missing = needed - worker.memory_bytes;
      nearest = &worker;
    }
    return Str("the ", name, " fits nobody: it needs ", FormatBytes(NeededBytes(layers, *nearest)),
               " of a worker, ", FormatBytes(least_missing), " more than worker ", nearest->id,
               " has");
  }

  const ClusterStages& model_;
  const std::vector<WorkerProfile>& workers_;
};

uint64_t OfferedBytes(const ClusterProfile& cluster) {
  uint64_t offered = 0;
  for (const WorkerProfile& worker : cluster.workers) {
    if (!AddChecked(offered, worker.memory_bytes, &offered)) return UINT64_MAX;
  }
  return offered;
}

}  // namespace

Status DoesNotFit(BatchCosts& costs, int64_t n_pages, const Status& why) {
  const PlannerInputs& inputs = costs.inputs();
  const ClusterStages model(costs, 1, LeastParts::kIgnored, n_pages);
  const model::LayerRange all = model.LayersOf(0, model.n_layer());
  const uint64_t held =
      model.bytes().Weights(all) + model.bytes().Relay(all) + model.bytes().Predictors(all);
  const model::LayerRange inner = {0, 1, false, false};
  uint64_t own = 0;
  for (const WorkerProfile& worker : inputs.cluster.workers) {
    own += model.overhead().MostOfLead(own == 0 ? all : inner, 0, HolderOf(worker));
  }
  const uint64_t saved = MostSaved(costs, all);
  const uint64_t needed = held - saved + model.kv_bytes(all) + own;
  const uint64_t offered = OfferedBytes(inputs.cluster);
  const std::string sum = Str(
      "weights ", FormatBytes(held),
      saved > 0 ? Str(" - up to ", FormatBytes(saved), " by rows in 8 bits") : "", " + KV for ",
      n_pages * costs.options().request.kv.page_tokens, " tokens ",
      FormatBytes(model.kv_bytes(all)), " + ", FormatBytes(own), " for the workers themselves are ",
      FormatBytes(needed), ", workers offer ", FormatBytes(offered));
  const SplitPolicy policy = costs.options().policy;
  if (!TriesWholeLayers(policy) && WholeLayersFit(model, costs.options().stop)) {
    return ResourceExhausted(Str("model does not fit as --policy ", SplitPolicyName(policy),
                                 " deals its layers: ", why.message(),
                                 "; whole layers do fit: --policy optimal has a plan"));
  }
  return ResourceExhausted(
      Str("model does not fit: ", why.message(), ": ", sum,
          needed > offered
              ? Str(": ", FormatBytes(needed - offered), " are missing")
              : Str(", but ", Pieces(model, inputs.cluster.workers).Text(),
                    policy == SplitPolicy::kPipelineOnly ? "" : ", with neurons shared or not"),
          EnoughText(costs, n_pages),
          "; shorter contexts, keys and values in F16, smaller steps or more memory would help"));
}

}  // namespace thermocline::placement
