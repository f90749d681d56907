// The layers of one stage, each lowered once per FFN mode it may run, over the same weights.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "worker/executor.h"
#include "worker/ffn_chooser.h"
#include "worker/kv_cache.h"
#include "worker/program.h"
#include "worker/shard.h"

namespace thermocline::worker {

// kInvalidArgument for a mode that the model cannot run.
Status CheckModes(const ModelSource& source, model::FfnModes modes);

// Chooses the mode per layer and batch by the time the device needs for it, when there is more than
// one. Step thread only.
class LayerStack {
 public:
  // `shard` holds the layers' weights as `ffn` needs them. kInternal as Program::Lower.
  static Result<LayerStack> Lower(const ModelSource& source, const model::LayerRange& layers,
                                  const FfnPlan& ffn, const Shard& shard);

  // Chooses the modes of all layers for a run that the executor has just opened.
  void Choose(int run, const Executor& executor);
  // The candidates that were chosen, by layer.
  std::span<const uint8_t> Chosen(int run) const { return At(run).chosen; }
  // Whether the time of some layer is to be taken.
  bool IsTimed(int run) const { return At(run).n_timed > 0; }
  // The layers whose chosen program lists the neurons that fire.
  bool ListsNeurons(int run, int layer) const;
  int n_layers() const { return static_cast<int>(layers_.size()); }
  // Of a layer, in whatever mode (worker/op_spans.h).
  size_t most_spans() const;

  // Starts the first layer of a run of the executor, over the x in its Input, after Choose; with
  // Next it goes through them all. `kv` may be null for helpers.
  void Begin(int run, Executor* executor, KvCache* kv);
  // The run's layer is done: starts the next one. False when that was the last, whose result is
  // where x was.
  bool Next(int run, Executor* executor, KvCache* kv);
  // Runs one layer of a run, to its end as far as that needs no waiting: of a helper, its branch of
  // the FFN, whose x has come. Errors as Executor::Advance.
  Status RunLayer(int layer, int run, Executor* executor);
  // The same of a helper's branch of the attention; it has heads.
  Status RunHeads(int layer, int run, Executor* executor, KvCache* kv);

  // Of the widest program; each keeps x in slot 0, the same place for all.
  int64_t scratch_cols() const;
  // "exact", or by layers what runs most: "exact 12 layers, dense 4 layers".
  std::string ModesText() const;

 private:
  struct ModeProgram {
    model::FfnMode mode = model::FfnMode::kDense;
    Program program;
    bool lists_neurons = false;
  };
  using Layer = std::vector<ModeProgram>;  // the candidates; of a helper without neurons none

  // Where a run is, and the candidates that were chosen for it.
  struct Place {
    int layer = 0;
    int n_timed = 0;              // layers
    std::vector<uint8_t> chosen;  // by layer
    std::vector<bool> is_timed;   // the same
  };

  LayerStack(std::vector<Layer> layers, std::vector<Program> heads);
  static Status AwaitProgram(int layer, int run, Executor* executor);
  Place& At(int run) { return places_[static_cast<size_t>(run)]; }
  const Place& At(int run) const { return places_[static_cast<size_t>(run)]; }
  const ModeProgram& ProgramOf(int run, int layer) const {
    return layers_[static_cast<size_t>(layer)][At(run).chosen[static_cast<size_t>(layer)]];
  }
  void ChooseLayer(int run, int layer, const Executor& executor);
  void Start(int run, int layer, Executor* executor, KvCache* kv);
  void Record(int run, const Executor& executor);

  std::vector<Layer> layers_;
  std::vector<Program> heads_;  // by layer, of a helper that has some
  FfnChooser chooser_;
  std::array<Place, kMaxRuns> places_;  // by run
};

}  // namespace thermocline::worker
