// The layers of one stage, each lowered once per FFN mode it may run, over the same weights.
#pragma once

#include <array>
#include <cstdint>
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

  // Starts the first layer of a run of the executor, over the x in its Input; with Next it goes
  // through them all. `kv` may be null for helpers.
  void Begin(int run, Executor* executor, KvCache* kv);
  // The run's layer is done: starts the next one. False when that was the last, whose result is
  // where x was.
  bool Next(int run, Executor* executor, KvCache* kv);
  // Runs one layer of a run, to its end as far as that needs no waiting: of a helper, its branch of
  // it, whose x has come. Errors as Executor::Advance.
  Status RunLayer(int layer, int run, Executor* executor);

  // Of the widest program; each keeps x in slot 0, the same place for all.
  int64_t scratch_cols() const;
  // "exact", or by layers what runs most: "exact 12 layers, dense 4 layers".
  std::string ModesText() const;

 private:
  struct ModeProgram {
    model::FfnMode mode = model::FfnMode::kDense;
    Program program;
  };
  using Layer = std::vector<ModeProgram>;  // the candidates; of a helper without neurons none

  // Where a run is, and the candidate that was chosen there.
  struct Place {
    int layer = 0;
    int chosen = 0;
    bool is_timed = false;
  };

  explicit LayerStack(std::vector<Layer> layers);
  void Start(int run, int layer, Executor* executor, KvCache* kv);
  void Record(int run, const Executor& executor);

  std::vector<Layer> layers_;
  FfnChooser chooser_;
  std::array<Place, kMaxRuns> places_;  // by run
};

}  // namespace thermocline::worker
