// What is known about a model that lets it skip neurons: predictors, thresholds, and what they cost
// when measured. It comes from PowerInfer's own files or from a sparsity file beside the model.
//
// Source: docs/sparsity-format.md.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/config.h"
#include "model/ffn_mode.h"
#include "model/gguf.h"
#include "model/range_reader.h"
#include "model/weights.h"

namespace thermocline::model {

enum class PredictorKind : uint8_t {
  kNone,    // the layer has no predictor
  kRelu,    // scores = fc2 relu(fc1 x)
  kLinear,  // scores = fc2 (fc1 x)
};
enum class PredictorInput : uint8_t {
  kResidual,  // the residual stream before ffn_norm
  kFfnNorm,   // the output of ffn_norm
};

struct LayerSparsity {
  PredictorKind predictor = PredictorKind::kNone;
  PredictorInput input = PredictorInput::kResidual;
  int n_hidden = 0;                 // rows of fc1
  float predictor_threshold = 0;    // a neuron with at least this score is computed; never NaN
  float activation_threshold = -1;  // activations below it count as 0; negative: none

  bool has_predictor() const { return predictor != PredictorKind::kNone; }
  bool has_threshold() const { return activation_threshold >= 0; }
  friend bool operator==(const LayerSparsity&, const LayerSparsity&) = default;
};

// Relative losses of perplexity against dense on held-out text.
struct LossGuard {
  std::optional<float> predicted;
  std::optional<float> thresholded;
  std::optional<float> allowed;
};

struct Sparsity {
  std::string path;                   // of the sparsity file; "": the model file tells, if anyone
  std::vector<LayerSparsity> layers;  // one per layer of the model
  LossGuard guard;
  // The predictors are PowerInfer's, of the model file itself: whoever chose the file chose their
  // loss, as long as nobody has measured it.
  bool is_part_of_model = false;

  bool has_predictors() const;
  bool has_thresholds() const;
};

// From the model file itself. kInvalidArgument for a threshold that is no number.
Result<Sparsity> SparsityOfModel(const GgufFile& file, const ModelConfig& config,
                                 const WeightIndex& weights);

// A sparsity file, opened and checked against its model; no weight has been read.
struct SparsityFile {
  std::unique_ptr<RangeReader> reader;
  Sparsity sparsity;
  std::map<WeightKey, TensorInfo> predictors;  // offsets are those of this file

  // Whether a stage computes with anything in it: else it only records measured losses.
  bool has_parts() const { return sparsity.has_predictors() || sparsity.has_thresholds(); }
};
// kInvalidArgument or kDataLoss name the key or tensor that is wrong, and the path.
Result<SparsityFile> OpenSparsityFile(const std::string& path, const ModelConfig& config,
                                      const std::string& model_fingerprint);
// The same from an opened file. `reader` is kept.
Result<SparsityFile> ReadSparsityFile(std::unique_ptr<RangeReader> reader,
                                      const ModelConfig& config,
                                      const std::string& model_fingerprint);

// Gives a model what the file has: its thresholds and measured losses, and its predictors instead
// of the model's own when it has any.
void AttachSparsity(const SparsityFile& file, WeightIndex* weights, Sparsity* sparsity);

// `given` unless that is empty; else M.predictor.gguf beside M.gguf, when there is such a file;
// else "".
std::string FindSparsityFile(const std::string& given, const std::string& model_path);

}  // namespace thermocline::model
