// The layers of one stage, each lowered once per FFN mode it may run, over the same weights.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "worker/executor.h"
#include "worker/ffn_chooser.h"
#include "worker/kv_cache.h"
#include "worker/program.h"
#include "worker/shard.h"

namespace thermocline::worker {

// kInvalidArgument for a mode that the model cannot run.
Status CheckModes(const ModelSource& source, model::FfnModes modes);

// Chooses the mode per layer and batch by measured time when there is more than one. Immutable but
// for that. Step thread only.
class LayerStack {
 public:
  // `shard` holds the layers' weights as `ffn` needs them; the clock outlives the stack. kInternal
  // as Program::Lower.
  static Result<LayerStack> Lower(const ModelSource& source, const model::LayerRange& layers,
                                  const FfnPlan& ffn, const Shard& shard, const Clock& clock);

  // Runs all layers over the x[n_rows, n_embd] in slot 0 and leaves the result there.
  // Errors as Executor::Run.
  Status Run(const BatchRows& rows, int64_t n_rows, Executor* executor, KvCache* kv);

  // Runs one layer; of a helper, its branch of it.
  Status RunLayer(int layer, const BatchRows& rows, int64_t n_rows, Executor* executor,
                  KvCache* kv);

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

  LayerStack(std::vector<Layer> layers, const Clock& clock);

  std::vector<Layer> layers_;
  FfnChooser chooser_;
  const Clock* clock_;
};

}  // namespace thermocline::worker
