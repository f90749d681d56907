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

bool HasListedNeurons(const Program& program) {
  const auto lists = [](const LoweredOp& op) {
    return op.kind == model::OpKind::kAxpyRows && op.active_ids != kNoSlot;
  };
  return std::any_of(program.ops().begin(), program.ops().end(), lists);
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

LayerStack::LayerStack(std::vector<Layer> layers, std::vector<Program> heads)
    : layers_(std::move(layers)), heads_(std::move(heads)), chooser_(Sizes(layers_)) {
  for (Place& place : places_) {
    place.chosen.resize(layers_.size());
    place.is_timed.resize(layers_.size());
  }
}

Result<LayerStack> LayerStack::Lower(const ModelSource& source, const model::LayerRange& layers,
                                     const FfnPlan& ffn, const Shard& shard) {
  std::vector<Layer> lowered;
  std::vector<Program> heads;
  for (int i = layers.begin; i < layers.end; ++i) {
    const model::LayerSparsity sparsity = source.LayerSparsityOf(i);
    const FfnModes modes = ModesOfLayer(source.config, sparsity, ffn.modes);
    Layer& layer = lowered.emplace_back();
    if (ffn.is_helper && ffn.heads.is_shared()) {
      const model::Graph graph =
          model::BuildHeadsGraph(source.config, source.weights, i, ffn.heads);
      TC_ASSIGN_OR_RETURN(heads.emplace_back(), Program::Lower(graph, shard, layers.begin));
    }
    if (ffn.is_helper && ffn.ShareOf(i - layers.begin).n_neurons == 0) continue;
    for (const FfnMode mode : model::kFfnModes) {
      if (!modes.Has(mode)) continue;
      const model::FfnOptions options{mode, ffn.has_neuron_rows(), sparsity,
                                      ffn.ShareOf(i - layers.begin), ffn.heads};
      const model::Graph graph =
          ffn.is_helper ? model::BuildHelperGraph(source.config, source.weights, i, options)
                        : model::BuildLayerGraph(source.config, source.weights, i, options);
      TC_ASSIGN_OR_RETURN(Program program, Program::Lower(graph, shard, layers.begin));
      const bool lists_neurons = HasListedNeurons(program);
      layer.push_back({mode, std::move(program), lists_neurons});
    }
  }
  return LayerStack(std::move(lowered), std::move(heads));
}

bool LayerStack::ListsNeurons(int run, int layer) const {
  return ProgramOf(run, layer).lists_neurons;
}

// A device's own time is had by waiting for it.
void LayerStack::ChooseLayer(int run, int layer, const Executor& executor) {
  const int64_t n_rows = executor.Input(run).n_rows;
  const int chosen = chooser_.Choose(layer, n_rows);
  const bool has_choice = layers_[static_cast<size_t>(layer)].size() > 1;
  const bool is_timed =
      has_choice && (!executor.is_apart() || chooser_.IsJudging(layer, n_rows, chosen));
  At(run).chosen[static_cast<size_t>(layer)] = static_cast<uint8_t>(chosen);
  At(run).is_timed[static_cast<size_t>(layer)] = is_timed;
  if (is_timed) ++At(run).n_timed;
}

void LayerStack::Choose(int run, const Executor& executor) {
  At(run).n_timed = 0;
  for (int layer = 0; layer < n_layers(); ++layer) ChooseLayer(run, layer, executor);
}

void LayerStack::Begin(int run, Executor* executor, KvCache* kv) { Start(run, 0, executor, kv); }

bool LayerStack::Next(int run, Executor* executor, KvCache* kv) {
  Record(run, *executor);
  const int next = At(run).layer + 1;
  if (next == n_layers()) return false;
  Start(run, next, executor, kv);
  return true;
}

Status LayerStack::RunLayer(int layer, int run, Executor* executor) {
  ChooseLayer(run, layer, *executor);
  Start(run, layer, executor, nullptr);
  TC_RETURN_IF_ERROR(AwaitProgram(layer, run, executor));
  Record(run, *executor);
  return OkStatus();
}

Status LayerStack::RunHeads(int layer, int run, Executor* executor, KvCache* kv) {
  executor->Start(run, heads_[static_cast<size_t>(layer)], kv);
  return AwaitProgram(layer, run, executor);
}

Status LayerStack::AwaitProgram(int layer, int run, Executor* executor) {
  while (true) {
    TC_ASSIGN_OR_RETURN(const int done, executor->Advance());
    if (done == run) return OkStatus();
    TC_ASSIGN_OR_RETURN(const bool waited, executor->AwaitSend());
    if (!waited) return Internal(Str("layer waits for what has come:", Kv("layer", layer)));
  }
}

void LayerStack::Start(int run, int layer, Executor* executor, KvCache* kv) {
  At(run).layer = layer;
  const bool is_timed = At(run).is_timed[static_cast<size_t>(layer)];
  executor->Start(run, ProgramOf(run, layer).program, kv, is_timed);
}

void LayerStack::Record(int run, const Executor& executor) {
  const auto layer = static_cast<size_t>(At(run).layer);
  if (!At(run).is_timed[layer]) return;
  const auto took = executor.FfnTime(run);
  if (!took) return;
  chooser_.Record(At(run).layer, executor.Input(run).n_rows, At(run).chosen[layer], *took);
}

int64_t LayerStack::scratch_cols() const {
  int64_t widest = 0;
  for (const Program& program : heads_) widest = std::max(widest, program.scratch_cols());
  for (const Layer& layer : layers_) {
    for (const ModeProgram& candidate : layer) {
      widest = std::max(widest, candidate.program.scratch_cols());
    }
  }
  return widest;
}

size_t LayerStack::most_spans() const {
  size_t most = 0;
  for (const Layer& layer : layers_) {
    for (const ModeProgram& candidate : layer) {
      most = std::max(most, candidate.program.spans().spans.size());
    }
  }
  return most;
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
