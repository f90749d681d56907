// Writes what lets a model skip neurons: M.predictor.gguf (docs/sparsity-format.md;
// model/sparsity.h reads it).
#pragma once

#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"
#include "model/sparsity.h"
#include "tools/profile/predictor.h"

namespace thermocline::tools {

// The predictor of one layer as it is stored; `dtype` counts when there is one.
struct StoredPredictor {
  model::PredictorKind kind = model::PredictorKind::kNone;
  Predictor predictor;
  DType dtype = DType::kF16;
  float threshold = 0;
};

struct SparsityContent {
  std::string fingerprint;                  // of the model
  std::string source;                       // for people: what it was made from
  std::vector<StoredPredictor> predictors;  // one per layer, or empty
  // Another file whose predictors are copied, byte for byte, unless `predictors` has any; may be
  // the one that is written over.
  const model::SparsityFile* kept_predictors = nullptr;
  std::vector<float> activation_thresholds;  // one per layer, or empty; negative: none
  model::LossGuard guard;
};

// Whole or not at all. kInvalidArgument when there is nothing to write, not even a loss of
// predicted mode; the codes of GgufWriter and, with kept predictors, of RangeReader::Read.
Status WriteSparsityFile(const SparsityContent& content, const std::string& path);

}  // namespace thermocline::tools
