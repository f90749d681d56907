#include "tools/profile/sparsity_file.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>

#include "base/str.h"
#include "model/gguf_metadata.h"
#include "model/gguf_writer.h"

namespace thermocline::tools {
namespace {

constexpr uint32_t kVersion = 1;

std::string KeyOf(std::string_view name) { return Str("thermocline.sparsity.", name); }

std::string_view KindName(model::PredictorKind kind) {
  switch (kind) {
    case model::PredictorKind::kNone:
      return "none";
    case model::PredictorKind::kRelu:
      return "relu";
    case model::PredictorKind::kLinear:
      return "linear";
  }
  return "none";
}

std::string_view InputName(model::PredictorInput input) {
  return input == model::PredictorInput::kResidual ? "residual" : "ffn_norm";
}

Result<std::vector<std::byte>> Read(const model::SparsityFile& file,
                                    const model::TensorInfo& tensor) {
  std::vector<std::byte> bytes(tensor.size_bytes);
  TC_RETURN_IF_ERROR(file.reader->Read(tensor.offset_bytes, bytes));
  return bytes;
}

// The predictors of a file, whoever made them.
struct PredictorSet {
  struct Tensor {
    model::GgufTensorSpec spec;
    std::function<Result<std::vector<std::byte>>()> bytes;  // made one after the other
  };
  std::string_view input = "ffn_norm";
  std::vector<std::string> kinds;
  std::vector<float> thresholds;
  std::vector<Tensor> tensors;
};

// Borrows from `predictors`.
PredictorSet Encode(const std::vector<StoredPredictor>& predictors) {
  PredictorSet set;
  for (size_t i = 0; i < predictors.size(); ++i) {
    const StoredPredictor& stored = predictors[i];
    set.kinds.emplace_back(KindName(stored.kind));
    set.thresholds.push_back(stored.threshold);
    if (stored.kind == model::PredictorKind::kNone) continue;
    const auto add = [&](model::WeightRole role, const Matrix& matrix) {
      set.tensors.push_back(
          {{model::TensorName({static_cast<int>(i), role}),
            stored.dtype,
            {matrix.rows, matrix.cols}},
           [rows = &matrix, dtype = stored.dtype] { return EncodeRows(*rows, dtype); }});
    };
    add(model::WeightRole::kPredictorFc1, stored.predictor.fc1);
    add(model::WeightRole::kPredictorFc2, stored.predictor.fc2);
  }
  return set;
}

// Borrows from `file`.
PredictorSet Copy(const model::SparsityFile& file) {
  PredictorSet set;
  for (const model::LayerSparsity& layer : file.sparsity.layers) {
    set.input = InputName(layer.input);
    set.kinds.emplace_back(KindName(layer.predictor));
    set.thresholds.push_back(layer.predictor_threshold);
  }
  for (const auto& [key, info] : file.predictors) {
    set.tensors.push_back({{info.name, info.dtype, info.shape},
                           [&file, tensor = &info] { return Read(file, *tensor); }});
  }
  return set;
}

PredictorSet PredictorsOf(const SparsityContent& content) {
  if (!content.predictors.empty()) return Encode(content.predictors);
  if (content.kept_predictors != nullptr) return Copy(*content.kept_predictors);
  return PredictorSet();
}

void SetPredictors(const PredictorSet& predictors, model::GgufMetadata* metadata) {
  if (predictors.tensors.empty()) return;
  metadata->SetString(KeyOf("predictor.input"), predictors.input);
  metadata->SetStrings(KeyOf("predictor.kinds"), predictors.kinds);
  metadata->SetF32s(KeyOf("predictor.thresholds"), predictors.thresholds);
}

void SetGuard(const model::LossGuard& guard, model::GgufMetadata* metadata) {
  if (guard.predicted) metadata->SetF32(KeyOf("guard.predicted.ppl_loss"), *guard.predicted);
  if (guard.thresholded) metadata->SetF32(KeyOf("guard.thresholded.ppl_loss"), *guard.thresholded);
  if (guard.allowed) metadata->SetF32(KeyOf("guard.allowed_loss"), *guard.allowed);
}

}  // namespace

Status WriteSparsityFile(const SparsityContent& content, const std::string& path) {
  const PredictorSet predictors = PredictorsOf(content);
  if (predictors.tensors.empty() && content.activation_thresholds.empty() &&
      !content.guard.predicted) {
    return InvalidArgument(Str("neither predictors nor thresholds to write: ", path));
  }
  model::GgufMetadata metadata;
  metadata.SetString("general.architecture", "thermocline.sparsity");
  metadata.SetU32(KeyOf("version"), kVersion);
  metadata.SetString(KeyOf("model_fingerprint"), content.fingerprint);
  metadata.SetString(KeyOf("source"), content.source);
  SetPredictors(predictors, &metadata);
  if (!content.activation_thresholds.empty()) {
    metadata.SetF32s(KeyOf("activation.thresholds"), content.activation_thresholds);
  }
  SetGuard(content.guard, &metadata);
  std::vector<model::GgufTensorSpec> specs;
  for (const PredictorSet::Tensor& tensor : predictors.tensors) specs.push_back(tensor.spec);
  TC_ASSIGN_OR_RETURN(const auto writer,
                      model::GgufWriter::Create(path, model::GgufDialect::kGguf, metadata, specs));
  for (size_t i = 0; i < specs.size(); ++i) {
    TC_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, predictors.tensors[i].bytes());
    TC_RETURN_IF_ERROR(writer->Put(i, 0, bytes));
  }
  return writer->Finish();
}

}  // namespace thermocline::tools
