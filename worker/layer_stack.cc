#include "worker/layer_stack.h"

#include <algorithm>
#include <utility>

#include "base/str.h"
#include "model/ffn_policy.h"
#include "model/graph.h"

namespace thermocline::worker {
namespace {

using model::FfnMode;
using model::FfnModes;

// The modes that remain of `modes` in a layer that may lack a predictor or a threshold.
FfnModes ModesOfLayer(const model::ModelConfig& config, const model::LayerSparsity& layer,
                      FfnModes modes) {
  FfnModes own;
  for (const FfnMode mode : model::kFfnModes) {
    if (modes.Has(mode)) own.Add(model::LayerFfnMode(config, layer, mode));
  }
  return own;
}

template <typename Layers>
std::vector<int> Sizes(const Layers& layers) {
  std::vector<int> sizes;
  for (const auto& layer : layers) sizes.push_back(std::max(1, static_cast<int>(layer.size())));
  return sizes;
}

}  // namespace

Status CheckModes(const ModelSource& source, model::FfnModes modes) {
  const model::Sparsity nothing;
  const model::Sparsity& sparsity = source.sparsity == nullptr ? nothing : *source.sparsity;
  for (const model::FfnMode mode : model::kFfnModes) {
    if (modes.Has(mode)) TC_RETURN_IF_ERROR(model::CheckFfnMode(source.config, sparsity, mode));
  }
  return OkStatus();
}

LayerStack::LayerStack(std::vector<Layer> layers)
    : layers_(std::move(layers)), chooser_(Sizes(layers_)) {}

Result<LayerStack> LayerStack::Lower(const ModelSource& source, const model::LayerRange& layers,
                                     const FfnPlan& ffn, const Shard& shard) {
  std::vector<Layer> lowered;
  for (int i = layers.begin; i < layers.end; ++i) {
    const model::LayerSparsity sparsity = source.LayerSparsityOf(i);
    const FfnModes modes = ModesOfLayer(source.config, sparsity, ffn.modes);
    Layer& layer = lowered.emplace_back();
    if (ffn.is_helper && ffn.ShareOf(i - layers.begin).n_neurons == 0) continue;
    for (const FfnMode mode : model::kFfnModes) {
      if (!modes.Has(mode)) continue;
      const model::FfnOptions options{mode, ffn.has_neuron_rows(), sparsity,
                                      ffn.ShareOf(i - layers.begin)};
      const model::Graph graph =
          ffn.is_helper ? model::BuildHelperGraph(source.config, source.weights, i, options)
                        : model::BuildLayerGraph(source.config, source.weights, i, options);
      TC_ASSIGN_OR_RETURN(Program program, Program::Lower(graph, shard, layers.begin));
      layer.push_back({mode, std::move(program)});
    }
  }
  return LayerStack(std::move(lowered));
}

void LayerStack::Begin(int run, Executor* executor, KvCache* kv) { Start(run, 0, executor, kv); }

bool LayerStack::Next(int run, Executor* executor, KvCache* kv) {
  Record(run, *executor);
  const int next = places_[static_cast<size_t>(run)].layer + 1;
  if (next == static_cast<int>(layers_.size())) return false;
  Start(run, next, executor, kv);
  return true;
}

Status LayerStack::RunLayer(int layer, int run, Executor* executor) {
  Start(run, layer, executor, nullptr);
  while (true) {
    TC_ASSIGN_OR_RETURN(const int done, executor->Advance());
    if (done == run) break;
    TC_ASSIGN_OR_RETURN(const bool waited, executor->AwaitSend());
    if (!waited) return Internal(Str("layer waits for what has come:", Kv("layer", layer)));
  }
  Record(run, *executor);
  return OkStatus();
}

void LayerStack::Start(int run, int layer, Executor* executor, KvCache* kv) {
  const Layer& candidates = layers_[static_cast<size_t>(layer)];
  const int chosen = chooser_.Choose(layer, executor->Input(run).n_rows);
  // A device's own time is had by waiting for it.
  const bool is_timed =
      candidates.size() > 1 &&
      (!executor->is_apart() || chooser_.IsJudging(layer, executor->Input(run).n_rows, chosen));
  places_[static_cast<size_t>(run)] = {layer, chosen, is_timed};
  executor->Start(run, candidates[static_cast<size_t>(chosen)].program, kv, is_timed);
}

void LayerStack::Record(int run, const Executor& executor) {
  const Place& place = places_[static_cast<size_t>(run)];
  if (!place.is_timed) return;
  const auto took = executor.FfnTime(run);
  if (took) chooser_.Record(place.layer, executor.Input(run).n_rows, place.chosen, *took);
}

int64_t LayerStack::scratch_cols() const {
  int64_t widest = 0;
  for (const Layer& layer : layers_) {
    for (const ModeProgram& candidate : layer) {
      widest = std::max(widest, candidate.program.scratch_cols());
    }
  }
  return widest;
}

std::string LayerStack::ModesText() const {
  std::string text;
  for (const FfnMode mode : model::kFfnModes) {
    size_t n_layers = 0;
    for (size_t i = 0; i < layers_.size(); ++i) {
      if (layers_[i].empty()) continue;
      const auto favourite = static_cast<size_t>(chooser_.Favourite(static_cast<int>(i)));
      if (layers_[i][favourite].mode == mode) ++n_layers;
    }
    if (n_layers == 0) continue;
    if (n_layers == layers_.size()) return std::string(model::FfnModeName(mode));
    text += Str(text.empty() ? "" : ", ", model::FfnModeName(mode), " ", n_layers,
                n_layers == 1 ? " layer" : " layers");
  }
  return text;
}

}  // namespace thermocline::worker
