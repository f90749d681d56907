#include "tools/profile/sparsity_file.h"

#include <cstdint>
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

// One matrix to write: its tensor and its values.
struct NamedMatrix {
  model::GgufTensorSpec spec;
  const Matrix* matrix;
};

std::vector<NamedMatrix> MatricesOf(const SparsityContent& content) {
  std::vector<NamedMatrix> list;
  for (size_t i = 0; i < content.predictors.size(); ++i) {
    const StoredPredictor& stored = content.predictors[i];
    if (stored.kind == model::PredictorKind::kNone) continue;
    const auto add = [&](std::string_view name, const Matrix& matrix) {
      list.push_back(
          {{Str("blk.", i, ".", name), stored.dtype, {matrix.rows, matrix.cols}}, &matrix});
    };
    add("fc1.weight", stored.predictor.fc1);
    add("fc2.weight", stored.predictor.fc2);
  }
  return list;
}

void SetPredictors(const SparsityContent& content, model::GgufMetadata* metadata) {
  if (content.predictors.empty()) return;
  std::vector<std::string> kinds;
  std::vector<float> thresholds;
  for (const StoredPredictor& stored : content.predictors) {
    kinds.emplace_back(KindName(stored.kind));
    thresholds.push_back(stored.threshold);
  }
  metadata->SetString(KeyOf("predictor.input"), "ffn_norm");
  metadata->SetStrings(KeyOf("predictor.kinds"), kinds);
  metadata->SetF32s(KeyOf("predictor.thresholds"), thresholds);
}

void SetGuard(const model::LossGuard& guard, model::GgufMetadata* metadata) {
  if (guard.predicted) metadata->SetF32(KeyOf("guard.predicted.ppl_loss"), *guard.predicted);
  if (guard.thresholded) metadata->SetF32(KeyOf("guard.thresholded.ppl_loss"), *guard.thresholded);
  if (guard.allowed) metadata->SetF32(KeyOf("guard.allowed_loss"), *guard.allowed);
}

}  // namespace

Status WriteSparsityFile(const SparsityContent& content, const std::string& path) {
  const std::vector<NamedMatrix> matrices = MatricesOf(content);
  if (matrices.empty() && content.activation_thresholds.empty()) {
    return InvalidArgument(Str("neither predictors nor thresholds to write: ", path));
  }
  model::GgufMetadata metadata;
  metadata.SetString("general.architecture", "thermocline.sparsity");
  metadata.SetU32(KeyOf("version"), kVersion);
  metadata.SetString(KeyOf("model_fingerprint"), content.fingerprint);
  metadata.SetString(KeyOf("source"), content.source);
  if (!matrices.empty()) SetPredictors(content, &metadata);
  if (!content.activation_thresholds.empty()) {
    metadata.SetF32s(KeyOf("activation.thresholds"), content.activation_thresholds);
  }
  SetGuard(content.guard, &metadata);
  std::vector<model::GgufTensorSpec> specs;
  for (const NamedMatrix& named : matrices) specs.push_back(named.spec);
  TC_ASSIGN_OR_RETURN(const auto writer,
                      model::GgufWriter::Create(path, model::GgufDialect::kGguf, metadata, specs));
  for (size_t i = 0; i < matrices.size(); ++i) {
    TC_RETURN_IF_ERROR(writer->Put(i, 0, EncodeRows(*matrices[i].matrix, specs[i].dtype)));
  }
  return writer->Finish();
}

}  // namespace thermocline::tools
