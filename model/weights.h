// The weights of a model, enumerated once: the index that loading, copying, planning and reporting
// all read, so that no second list must agree with it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/config.h"
#include "model/gguf.h"

namespace thermocline::model {

enum class WeightRole : uint8_t {
  // Of the whole model; layer = kNoLayer.
  kTokenEmbd,
  kPositionEmbd,  // [n_position_rows, n_embd] where positions are learned
  kOutputNorm,
  kOutputNormBias,
  kOutput,     // absent when tied: the head then reads kTokenEmbd
  kRopeFreqs,  // [n_rot/2] divisors of the rope angles (Llama-3 scaling)
  // Of each layer.
  kAttnNorm,
  kAttnNormBias,
  kAttnQ,
  kAttnQBias,
  kAttnK,
  kAttnKBias,
  kAttnV,
  kAttnVBias,
  kAttnOutput,
  kAttnOutputBias,
  kFfnNorm,
  kFfnNormBias,
  kFfnGate,
  kFfnGateBias,
  kFfnUp,
  kFfnUpBias,
  kFfnDown,   // [n_embd, n_ff]: one row per output
  kFfnDownT,  // [n_ff, n_embd]: one row per neuron (PowerInfer's files and `convert`'s)
  kFfnDownBias,
  kPredictorFc1,  // PowerInfer's predictor [r, n_embd]
  kPredictorFc2,  // [n_ff, r]
};
inline constexpr int kNumWeightRoles = static_cast<int>(WeightRole::kPredictorFc2) + 1;
inline constexpr int kNoLayer = -1;

// The tensor's name in a file without its "blk.N.": "ffn_up.weight".
std::string_view WeightRoleName(WeightRole role);

struct WeightKey {
  int layer = kNoLayer;
  WeightRole role = WeightRole::kTokenEmbd;
  friend auto operator<=>(const WeightKey&, const WeightKey&) = default;
};

// The tensor's name in a file: "blk.3.ffn_up.weight".
std::string TensorName(const WeightKey& key);

// [begin, end) of a file.
struct ByteRange {
  uint64_t begin = 0;
  uint64_t end = 0;
  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

// Contiguous layers with, at the ends of the model, the embedding and the head.
struct LayerRange {
  int begin = 0;
  int end = 0;
  bool has_embed = false;
  bool has_head = false;
  friend bool operator==(const LayerRange&, const LayerRange&) = default;
};

// Neurons [begin, end) of a layer, in heat order where there is a profile, else in the file's.
struct NeuronRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  bool empty() const { return begin >= end; }
  friend bool operator==(const NeuronRange&, const NeuronRange&) = default;
};

// KV heads [begin, end) of a layer, each with the query heads that read it.
struct HeadRange {
  int begin = 0;
  int end = 0;
  int size() const { return end - begin; }
  bool empty() const { return begin >= end; }
  friend bool operator==(const HeadRange&, const HeadRange&) = default;
};

// Whether the weight has rows or values (biases) for each head: query, key and value of attention.
bool IsPerHead(WeightRole role);
// Whether the weight has a row, a column (ffn_down) or a value (biases) per neuron.
bool IsPerNeuron(WeightRole role);
// Whether it is a weight of a layer's predictor.
bool IsPredictor(WeightRole role);

// The type that ffn_down[n_embd, n_ff] of `type` has when it is re-laid as one row per neuron.
// Float weights keep theirs. Blocks along n_ff cannot be cut per neuron, so quantised weights are
// rounded once more, at a fraction of the error they have: types of up to 6 bits to Q8_0 (half a
// step of 1/127 of a block's largest weight), Q8_0 itself, or rows that Q8_0 cannot divide, to F16.
DType NeuronRowType(DType type, int64_t n_embd);

// The type in which workers keep a weight that is not re-laid. Predictors choose neurons, for which
// 8 bits a weight are plenty: those that files bring as halves are kept as Q8_0, half the bytes.
// F32 stays, for those who want every bit; so does a row that blocks of 32 do not divide.
DType MemoryType(WeightRole role, const TensorInfo& info);

// A weight as a worker holds it in memory: of MemoryType, or, for ffn_down with `neuron_rows`,
// re-laid as one row per neuron (NeuronRowType).
struct HeldWeight {
  DType dtype = DType::kF32;
  int64_t n_rows = 0;
  int64_t n_cols = 0;

  uint64_t size_bytes() const;
};
HeldWeight HeldAs(WeightRole role, const TensorInfo& info, bool neuron_rows);

// Maps each weight of the model to its tensor in the file. Immutable, so thread-safe.
class WeightIndex {
 public:
  // Checks that every tensor the architecture needs is there with the right shape, and that the
  // file has no tensor that the architecture does not know (kInvalidArgument names it).
  static Result<WeightIndex> Build(const ModelConfig& config, const GgufFile& file);

  // Adds predictors whose bytes lie in another file; they replace those of the model's own file.
  void AttachPredictors(const std::map<WeightKey, TensorInfo>& predictors);
  // Whether predictors were attached: their offsets are then those of the other file.
  bool has_attached_predictors() const { return has_attached_predictors_; }

  // nullptr when the model has no such weight.
  const TensorInfo* Find(WeightRole role, int layer = kNoLayer) const;
  const std::map<WeightKey, TensorInfo>& all() const { return weights_; }

  // The keys that a worker running `layers` must hold (predictors excluded), in file order.
  std::vector<WeightKey> KeysOf(const LayerRange& layers) const;
  // The byte ranges of those keys, ascending and merged where they touch.
  std::vector<ByteRange> RangesOf(const LayerRange& layers) const;
  uint64_t BytesOf(const LayerRange& layers) const;

  // The predictors of `layers`, which only some FFN modes read.
  std::vector<WeightKey> PredictorKeysOf(const LayerRange& layers) const;
  std::vector<ByteRange> PredictorRangesOf(const LayerRange& layers) const;
  uint64_t PredictorBytesOf(const LayerRange& layers) const;

 private:
  std::vector<WeightKey> InFileOrder(const std::function<bool(const WeightKey&)>& needed) const;
  std::vector<ByteRange> RangesOf(const std::vector<WeightKey>& keys) const;

  std::map<WeightKey, TensorInfo> weights_;
  bool has_attached_predictors_ = false;
};

// The two halves of a layer's predictor against the model and each other. kInvalidArgument names
// the tensor and its shape.
Status CheckPredictorShapes(const TensorInfo& fc1, const TensorInfo& fc2,
                            const ModelConfig& config);

}  // namespace thermocline::model
