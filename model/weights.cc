#include "model/weights.h"

#include <algorithm>
#include <utility>

#include "base/str.h"
#include "model/weight_table.h"

namespace thermocline::model {
namespace {

// What any length of a free dimension must stay under; published predictors have up to 5120.
constexpr int64_t kMaxPredictorHidden = 1 << 17;

// The length that the architecture fixes; 0 when it is free.
int64_t LengthOf(Dim dim, const ModelConfig& config) {
  switch (dim) {
    case Dim::kNone:
      return 1;
    case Dim::kVocab:
      return config.n_vocab;
    case Dim::kPositions:
      return config.n_position_rows;
    case Dim::kEmbd:
      return config.n_embd;
    case Dim::kQ:
      return config.n_embd_q();
    case Dim::kKv:
      return config.n_embd_kv();
    case Dim::kFf:
      return config.n_ff;
    case Dim::kRopePairs:
      return config.rope.n_rot / 2;
    case Dim::kPredictor:
      return 0;
  }
  return 0;
}

bool LengthMatches(Dim dim, int64_t length, const ModelConfig& config) {
  const int64_t wanted = LengthOf(dim, config);
  return wanted == 0 ? length <= kMaxPredictorHidden : length == wanted;
}

bool ShapeMatches(const WeightSpec& spec, const TensorInfo& tensor, const ModelConfig& config) {
  const size_t n_dims = spec.rows == Dim::kNone ? 1 : 2;
  if (tensor.shape.size() != n_dims) return false;
  return LengthMatches(spec.cols, tensor.n_cols(), config) &&
         (n_dims == 1 || LengthMatches(spec.rows, tensor.shape[0], config));
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t dim : shape) text += Str(text.empty() ? "[" : ", ", dim);
  return text + "]";
}

std::string WantedText(const WeightSpec& spec, const ModelConfig& config) {
  std::string text;
  for (const Dim dim : {spec.rows, spec.cols}) {
    if (dim == Dim::kNone) continue;
    const int64_t length = LengthOf(dim, config);
    text += Str(text.empty() ? "[" : ", ", DimName(dim));
    if (length != 0) text += Str("=", length);
  }
  return text + "]";
}

Status CheckTensor(const WeightSpec& spec, const TensorInfo& tensor, const ModelConfig& config) {
  if (!ShapeMatches(spec, tensor, config)) {
    return InvalidArgument(Str("tensor has the wrong shape: ", tensor.name,
                               Kv("shape", ShapeText(tensor.shape)),
                               Kv("wanted", WantedText(spec, config))));
  }
  if (spec.f32_only && tensor.dtype != DType::kF32) {
    return InvalidArgument(Str("norms, biases and rope divisors must be F32: ", tensor.name,
                               Kv("type", DTypeName(tensor.dtype))));
  }
  if (tensor.dtype == DType::kI32) {
    return InvalidArgument(Str("weights cannot be I32: ", tensor.name));
  }
  return OkStatus();
}

Status CheckHalvesFit(const TensorInfo& fc1, const TensorInfo& fc2) {
  if (fc1.n_rows() == fc2.n_cols()) return OkStatus();
  return InvalidArgument(Str("predictor halves do not fit: ", fc1.name, " and ", fc2.name,
                             Kv("fc1", ShapeText(fc1.shape)), Kv("fc2", ShapeText(fc2.shape))));
}

// The two halves of a layer's predictor come together and share their hidden size.
Status CheckPredictor(const WeightIndex& index, int layer) {
  const TensorInfo* fc1 = index.Find(WeightRole::kPredictorFc1, layer);
  const TensorInfo* fc2 = index.Find(WeightRole::kPredictorFc2, layer);
  if (fc1 == nullptr && fc2 == nullptr) return OkStatus();
  if (fc1 == nullptr || fc2 == nullptr) {
    return InvalidArgument(
        Str("half a predictor: ", fc1 != nullptr ? fc1->name : fc2->name, " is alone"));
  }
  return CheckHalvesFit(*fc1, *fc2);
}

Status MissingTensor(const std::string& name, const ModelConfig& config) {
  return InvalidArgument(Str("tensor is missing: ", name, " of a ", config.arch_name, " model",
                             Kv("n_layer", config.n_layer)));
}

const TensorInfo* FindTensor(const GgufFile& file, const WeightSpec& spec, const WeightKey& key) {
  const TensorInfo* tensor = file.FindTensor(TensorName(key));
  if (tensor != nullptr || spec.alias.empty()) return tensor;
  return file.FindTensor(Str("blk.", key.layer, ".", spec.alias));
}

// The down projection is there once, by output or by neuron.
Status CheckDown(const WeightIndex& index, int layer, const ModelConfig& config) {
  const TensorInfo* by_output = index.Find(WeightRole::kFfnDown, layer);
  const TensorInfo* by_neuron = index.Find(WeightRole::kFfnDownT, layer);
  if (by_output == nullptr && by_neuron == nullptr) {
    return MissingTensor(TensorName({layer, WeightRole::kFfnDown}), config);
  }
  if (by_output == nullptr || by_neuron == nullptr) return OkStatus();
  return InvalidArgument(
      Str("one down projection too many: ", by_output->name, " and ", by_neuron->name));
}

Status CheckAllKnown(const std::map<WeightKey, TensorInfo>& weights, const GgufFile& file,
                     const ModelConfig& config) {
  if (weights.size() == file.tensors().size()) return OkStatus();
  std::map<std::string_view, WeightKey> by_name;
  for (const auto& [key, tensor] : weights) by_name[tensor.name] = key;
  for (const TensorInfo& tensor : file.tensors()) {
    if (by_name.contains(tensor.name)) continue;
    return InvalidArgument(Str("tensor is not part of a ", config.arch_name,
                               " model: ", Printable(tensor.name), Kv("n_layer", config.n_layer)));
  }
  return OkStatus();
}

uint64_t SumOf(const std::vector<ByteRange>& ranges) {
  uint64_t n_bytes = 0;
  for (const ByteRange& range : ranges) n_bytes += range.end - range.begin;
  return n_bytes;
}

}  // namespace

bool IsPerHead(WeightRole role) {
  switch (role) {
    case WeightRole::kAttnQ:
    case WeightRole::kAttnQBias:
    case WeightRole::kAttnK:
    case WeightRole::kAttnKBias:
    case WeightRole::kAttnV:
    case WeightRole::kAttnVBias:
      return true;
    default:
      return false;
  }
}

bool IsPerNeuron(WeightRole role) {
  switch (role) {
    case WeightRole::kFfnGate:
    case WeightRole::kFfnGateBias:
    case WeightRole::kFfnUp:
    case WeightRole::kFfnUpBias:
    case WeightRole::kFfnDown:
    case WeightRole::kFfnDownT:
    case WeightRole::kPredictorFc2:
      return true;
    default:
      return false;
  }
}

bool IsPredictor(WeightRole role) {
  return role == WeightRole::kPredictorFc1 || role == WeightRole::kPredictorFc2;
}

DType NeuronRowType(DType type, int64_t n_embd) {
  if (IsFloat(type)) return type;
  const bool divides = n_embd % Traits(DType::kQ8_0).block_elems == 0;
  return type == DType::kQ8_0 || !divides ? DType::kF16 : DType::kQ8_0;
}

DType MemoryType(WeightRole role, const TensorInfo& info) {
  const bool divides = info.n_cols() % Traits(DType::kQ8_0).block_elems == 0;
  const bool is_half = info.dtype == DType::kF16 || info.dtype == DType::kBF16;
  return IsPredictor(role) && is_half && divides ? DType::kQ8_0 : info.dtype;
}

uint64_t HeldWeight::size_bytes() const {
  return static_cast<uint64_t>(n_rows) * RowBytes(dtype, static_cast<uint64_t>(n_cols));
}

HeldWeight HeldAs(WeightRole role, const TensorInfo& info, bool neuron_rows) {
  if (role == WeightRole::kFfnDown && neuron_rows) {
    return {NeuronRowType(info.dtype, info.n_rows()), info.n_cols(), info.n_rows()};
  }
  return {MemoryType(role, info), info.n_rows(), info.n_cols()};
}

std::string_view WeightRoleName(WeightRole role) { return SpecOf(role).name; }

std::string TensorName(const WeightKey& key) {
  const WeightSpec& spec = SpecOf(key.role);
  return spec.per_layer ? Str("blk.", key.layer, ".", spec.name) : std::string(spec.name);
}

Result<WeightIndex> WeightIndex::Build(const ModelConfig& config, const GgufFile& file) {
  WeightIndex index;
  for (const RoleUse& use : RolesOf(config)) {
    const WeightSpec& spec = SpecOf(use.role);
    const int n_copies = spec.per_layer ? config.n_layer : 1;
    for (int i = 0; i < n_copies; ++i) {
      const WeightKey key{spec.per_layer ? i : kNoLayer, use.role};
      const std::string name = TensorName(key);
      const TensorInfo* tensor = FindTensor(file, spec, key);
      if (tensor == nullptr && !use.required) continue;
      if (tensor == nullptr) return MissingTensor(name, config);
      TC_RETURN_IF_ERROR(CheckTensor(spec, *tensor, config));
      index.weights_.emplace(key, *tensor);
    }
  }
  for (int i = 0; i < config.n_layer; ++i) {
    TC_RETURN_IF_ERROR(CheckDown(index, i, config));
    TC_RETURN_IF_ERROR(CheckPredictor(index, i));
  }
  TC_RETURN_IF_ERROR(CheckAllKnown(index.weights_, file, config));
  return index;
}

const TensorInfo* WeightIndex::Find(WeightRole role, int layer) const {
  const auto found = weights_.find({layer, role});
  return found == weights_.end() ? nullptr : &found->second;
}

std::vector<WeightKey> WeightIndex::KeysOf(const LayerRange& layers) const {
  const bool is_tied = Find(WeightRole::kOutput) == nullptr;
  const auto needed = [&](const WeightKey& key) {
    switch (key.role) {
      case WeightRole::kTokenEmbd:
        return layers.has_embed || (layers.has_head && is_tied);
      case WeightRole::kPositionEmbd:
        return layers.has_embed;
      case WeightRole::kOutputNorm:
      case WeightRole::kOutputNormBias:
      case WeightRole::kOutput:
        return layers.has_head;
      case WeightRole::kRopeFreqs:
        return layers.begin < layers.end;
      default:
        return layers.begin <= key.layer && key.layer < layers.end && !IsPredictor(key.role);
    }
  };
  return InFileOrder(needed);
}

std::vector<WeightKey> WeightIndex::InFileOrder(
    const std::function<bool(const WeightKey&)>& needed) const {
  std::vector<std::pair<uint64_t, WeightKey>> by_offset;
  for (const auto& [key, tensor] : weights_) {
    if (needed(key)) by_offset.emplace_back(tensor.offset_bytes, key);
  }
  std::sort(by_offset.begin(), by_offset.end());
  std::vector<WeightKey> keys;
  for (const auto& [offset, key] : by_offset) keys.push_back(key);
  return keys;
}

std::vector<ByteRange> WeightIndex::RangesOf(const LayerRange& layers) const {
  return RangesOf(KeysOf(layers));
}

std::vector<ByteRange> WeightIndex::RangesOf(const std::vector<WeightKey>& keys) const {
  std::vector<ByteRange> ranges;
  for (const WeightKey& key : keys) {
    const TensorInfo& tensor = weights_.at(key);
    const ByteRange range{tensor.offset_bytes, tensor.offset_bytes + tensor.size_bytes};
    if (!ranges.empty() && ranges.back().end == range.begin) {
      ranges.back().end = range.end;
    } else {
      ranges.push_back(range);
    }
  }
  return ranges;
}

uint64_t WeightIndex::BytesOf(const LayerRange& layers) const { return SumOf(RangesOf(layers)); }

void WeightIndex::AttachPredictors(const std::map<WeightKey, TensorInfo>& predictors) {
  std::erase_if(weights_, [](const auto& weight) { return IsPredictor(weight.first.role); });
  weights_.insert(predictors.begin(), predictors.end());
  has_attached_predictors_ = true;
}

std::vector<WeightKey> WeightIndex::PredictorKeysOf(const LayerRange& layers) const {
  return InFileOrder([&](const WeightKey& key) {
    return layers.begin <= key.layer && key.layer < layers.end && IsPredictor(key.role);
  });
}

std::vector<ByteRange> WeightIndex::PredictorRangesOf(const LayerRange& layers) const {
  return RangesOf(PredictorKeysOf(layers));
}

uint64_t WeightIndex::PredictorBytesOf(const LayerRange& layers) const {
  return SumOf(PredictorRangesOf(layers));
}

Status CheckPredictorShapes(const TensorInfo& fc1, const TensorInfo& fc2,
                            const ModelConfig& config) {
  TC_RETURN_IF_ERROR(CheckTensor(SpecOf(WeightRole::kPredictorFc1), fc1, config));
  TC_RETURN_IF_ERROR(CheckTensor(SpecOf(WeightRole::kPredictorFc2), fc2, config));
  return CheckHalvesFit(fc1, fc2);
}

}  // namespace thermocline::model
