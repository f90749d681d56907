#include "model/sparsity.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/str.h"
#include "model/file_names.h"

namespace thermocline::model {
namespace {

constexpr std::string_view kArchitecture = "thermocline.sparsity";
constexpr int64_t kVersion = 1;
constexpr std::string_view kPredictedLoss = "guard.predicted.ppl_loss";
constexpr std::string_view kPowerInferThreshold = "powerinfer.sparse_threshold";

std::string Key(std::string_view suffix) { return Str(kArchitecture, ".", suffix); }

// A missing key is a fault of the file, not of the lookup.
template <typename T>
Result<T> Required(Result<T> value) {
  if (value.ok() || value.status().code() != StatusCode::kNotFound) return value;
  return InvalidArgument(value.status().message());
}

// Reads one sparsity file; lives as long as ReadSparsityFile.
class SparsityReader {
 public:
  SparsityReader(const GgufFile& file, const ModelConfig& config) : file_(file), config_(config) {}

  Status CheckIdentity(const std::string& model_fingerprint) const {
    TC_ASSIGN_OR_RETURN(const std::string arch, Required(file_.GetString("general.architecture")));
    if (arch != kArchitecture) {
      return InvalidArgument(Str("not a sparsity file: general.architecture \"", Printable(arch),
                                 "\", wanted \"", kArchitecture, "\""));
    }
    TC_ASSIGN_OR_RETURN(const int64_t version, Required(file_.GetInt(Key("version"))));
    if (version != kVersion) {
      return InvalidArgument(Str("unsupported ", Key("version"), ":", Kv("version", version),
                                 Kv("supported", kVersion)));
    }
    TC_ASSIGN_OR_RETURN(const std::string fingerprint,
                        Required(file_.GetString(Key("model_fingerprint"))));
    if (fingerprint == model_fingerprint) return OkStatus();
    return InvalidArgument(
        Str("made for another model:", Kv("model_fingerprint", Printable(fingerprint)),
            Kv("this_model", model_fingerprint)));
  }

  Result<Sparsity> Read() {
    Sparsity sparsity;
    sparsity.layers.resize(n_layer());
    const bool has_predictors = file_.Has(Key("predictor.kinds"));
    const bool has_thresholds = file_.Has(Key("activation.thresholds"));
    if (!has_predictors && !has_thresholds && !file_.Has(Key(kPredictedLoss))) {
      return InvalidArgument(
          Str("neither predictors nor thresholds nor a measured loss: ", Key("predictor.kinds"),
              ", ", Key("activation.thresholds"), " and ", Key(kPredictedLoss), " are missing"));
    }
    if (has_predictors) TC_RETURN_IF_ERROR(ReadPredictors(&sparsity.layers));
    if (has_thresholds) TC_RETURN_IF_ERROR(ReadActivationThresholds(&sparsity.layers));
    TC_RETURN_IF_ERROR(ReadGuard(&sparsity.guard));
    if (predictors_.size() != file_.tensors().size()) return NameUnknownTensor();
    return sparsity;
  }

  std::map<WeightKey, TensorInfo> TakePredictors() { return std::move(predictors_); }

 private:
  size_t n_layer() const { return static_cast<size_t>(config_.n_layer); }

  Status CheckLength(std::string_view suffix, size_t n_entries) const {
    if (n_entries == n_layer()) return OkStatus();
    return InvalidArgument(Str("not one entry per layer: ", Key(suffix), Kv("entries", n_entries),
                               Kv("n_layer", n_layer())));
  }

  // One number per layer, none of them NaN.
  Result<std::vector<float>> PerLayer(std::string_view suffix) const {
    TC_ASSIGN_OR_RETURN(const std::vector<double> values, Required(file_.GetFloats(Key(suffix))));
    TC_RETURN_IF_ERROR(CheckLength(suffix, values.size()));
    for (size_t i = 0; i < values.size(); ++i) {
      if (!std::isnan(values[i])) continue;
      return InvalidArgument(Str("threshold is NaN: ", Key(suffix), Kv("layer", i)));
    }
    return std::vector<float>(values.begin(), values.end());
  }

  Result<PredictorInput> ReadInput() const {
    TC_ASSIGN_OR_RETURN(const std::string input, Required(file_.GetString(Key("predictor.input"))));
    if (input == "residual") return PredictorInput::kResidual;
    if (input == "ffn_norm") return PredictorInput::kFfnNorm;
    return InvalidArgument(Str("unknown ", Key("predictor.input"), " \"", Printable(input),
                               "\"; one of residual ffn_norm"));
  }

  static Result<PredictorKind> ParseKind(const std::string& kind) {
    if (kind == "none") return PredictorKind::kNone;
    if (kind == "relu") return PredictorKind::kRelu;
    if (kind == "linear") return PredictorKind::kLinear;
    return InvalidArgument(Str("unknown kind in ", Key("predictor.kinds"), ": \"", Printable(kind),
                               "\"; one of relu linear none"));
  }

  Status ReadPredictors(std::vector<LayerSparsity>* layers) {
    TC_ASSIGN_OR_RETURN(const PredictorInput input, ReadInput());
    TC_ASSIGN_OR_RETURN(const auto kinds, Required(file_.GetStrings(Key("predictor.kinds"))));
    TC_RETURN_IF_ERROR(CheckLength("predictor.kinds", kinds.size()));
    TC_ASSIGN_OR_RETURN(const auto thresholds, PerLayer("predictor.thresholds"));
    for (size_t i = 0; i < layers->size(); ++i) {
      LayerSparsity& layer = (*layers)[i];
      layer.input = input;
      layer.predictor_threshold = thresholds[i];
      TC_ASSIGN_OR_RETURN(layer.predictor, ParseKind(kinds[i]));
      if (layer.has_predictor()) TC_RETURN_IF_ERROR(ReadTensors(static_cast<int>(i), &layer));
    }
    return OkStatus();
  }

  Status ReadTensors(int i, LayerSparsity* layer) {
    TC_ASSIGN_OR_RETURN(const TensorInfo* fc1, Find({i, WeightRole::kPredictorFc1}));
    TC_ASSIGN_OR_RETURN(const TensorInfo* fc2, Find({i, WeightRole::kPredictorFc2}));
    TC_RETURN_IF_ERROR(CheckPredictorShapes(*fc1, *fc2, config_));
    layer->n_hidden = static_cast<int>(fc1->n_rows());
    return OkStatus();
  }

  Result<const TensorInfo*> Find(const WeightKey& key) {
    const std::string name = TensorName(key);
    const TensorInfo* tensor = file_.FindTensor(name);
    if (tensor == nullptr) {
      return InvalidArgument(Str("tensor is missing: ", name,
                                 "; a layer without predictor has the "
                                 "kind none",
                                 Kv("n_layer", n_layer())));
    }
    predictors_.emplace(key, *tensor);
    return tensor;
  }

  Status ReadActivationThresholds(std::vector<LayerSparsity>* layers) const {
    constexpr std::string_view kSuffix = "activation.thresholds";
    TC_ASSIGN_OR_RETURN(const auto thresholds, PerLayer(kSuffix));
    for (size_t i = 0; i < layers->size(); ++i) {
      if (!std::isfinite(thresholds[i])) {
        return InvalidArgument(Str("threshold is not finite: ", Key(kSuffix), Kv("layer", i),
                                   Kv("value", thresholds[i])));
      }
      (*layers)[i].activation_threshold = thresholds[i];
    }
    return OkStatus();
  }

  Status ReadGuard(LossGuard* guard) const {
    TC_ASSIGN_OR_RETURN(guard->predicted, OptionalLoss(kPredictedLoss));
    TC_ASSIGN_OR_RETURN(guard->thresholded, OptionalLoss("guard.thresholded.ppl_loss"));
    TC_ASSIGN_OR_RETURN(guard->allowed, OptionalLoss("guard.allowed_loss"));
    return OkStatus();
  }

  Result<std::optional<float>> OptionalLoss(std::string_view suffix) const {
    if (!file_.Has(Key(suffix))) return std::optional<float>();
    TC_ASSIGN_OR_RETURN(const double loss, file_.GetFloat(Key(suffix)));
    if (std::isnan(loss)) return InvalidArgument(Str("loss is NaN: ", Key(suffix)));
    return std::optional(static_cast<float>(loss));
  }

  Status NameUnknownTensor() const {
    for (const TensorInfo& tensor : file_.tensors()) {
      const auto is_it = [&](const auto& known) { return known.second.name == tensor.name; };
      if (std::any_of(predictors_.begin(), predictors_.end(), is_it)) continue;
      return InvalidArgument(
          Str("tensor is not part of a sparsity file, or its layer has the kind none: ",
              Printable(tensor.name), Kv("n_layer", n_layer())));
    }
    return OkStatus();
  }

  const GgufFile& file_;
  const ModelConfig& config_;
  std::map<WeightKey, TensorInfo> predictors_;
};

Result<SparsityFile> Read(const GgufFile& file, const ModelConfig& config,
                          const std::string& model_fingerprint) {
  SparsityReader parts(file, config);
  TC_RETURN_IF_ERROR(parts.CheckIdentity(model_fingerprint));
  SparsityFile read;
  TC_ASSIGN_OR_RETURN(read.sparsity, parts.Read());
  read.predictors = parts.TakePredictors();
  return read;
}

}  // namespace

bool Sparsity::has_predictors() const {
  return std::any_of(layers.begin(), layers.end(), [](const auto& l) { return l.has_predictor(); });
}

bool Sparsity::has_thresholds() const {
  return std::any_of(layers.begin(), layers.end(), [](const auto& l) { return l.has_threshold(); });
}

Result<Sparsity> SparsityOfModel(const GgufFile& file, const ModelConfig& config,
                                 const WeightIndex& weights) {
  Sparsity sparsity;
  sparsity.is_part_of_model = true;
  sparsity.layers.resize(static_cast<size_t>(config.n_layer));
  double threshold = 0;
  if (file.Has(kPowerInferThreshold)) {
    TC_ASSIGN_OR_RETURN(threshold, file.GetFloat(kPowerInferThreshold));
  }
  if (std::isnan(threshold)) return InvalidArgument(Str("NaN: ", kPowerInferThreshold));
  for (int i = 0; i < config.n_layer; ++i) {
    const TensorInfo* fc1 = weights.Find(WeightRole::kPredictorFc1, i);
    if (fc1 == nullptr) continue;
    LayerSparsity& layer = sparsity.layers[static_cast<size_t>(i)];
    layer.predictor = PredictorKind::kRelu;
    layer.n_hidden = static_cast<int>(fc1->n_rows());
    layer.predictor_threshold = static_cast<float>(threshold);
  }
  return sparsity;
}

Result<SparsityFile> ReadSparsityFile(std::unique_ptr<RangeReader> reader,
                                      const ModelConfig& config,
                                      const std::string& model_fingerprint) {
  TC_ASSIGN_OR_RETURN(const GgufFile file, GgufFile::Parse(*reader));
  Result<SparsityFile> read = Read(file, config, model_fingerprint);
  if (!read.ok()) return read.status().WithContext(reader->name());
  read->sparsity.path = reader->name();
  read->reader = std::move(reader);
  return read;
}

Result<SparsityFile> OpenSparsityFile(const std::string& path, const ModelConfig& config,
                                      const std::string& model_fingerprint) {
  TC_ASSIGN_OR_RETURN(auto reader, OpenMappedFile(path));
  return ReadSparsityFile(std::move(reader), config, model_fingerprint);
}

void AttachSparsity(const SparsityFile& file, WeightIndex* weights, Sparsity* sparsity) {
  Sparsity own = std::exchange(*sparsity, file.sparsity);
  if (file.sparsity.has_predictors()) {
    weights->AttachPredictors(file.predictors);
    return;
  }
  if (!own.has_predictors()) return;
  sparsity->is_part_of_model = own.is_part_of_model;
  for (size_t i = 0; i < own.layers.size(); ++i) {
    own.layers[i].activation_threshold = file.sparsity.layers[i].activation_threshold;
  }
  sparsity->layers = std::move(own.layers);
}

std::string FindSparsityFile(const std::string& given, const std::string& model_path) {
  if (!given.empty()) return given;
  std::string path = SparsityPathOf(model_path);
  std::error_code error;
  return std::filesystem::is_regular_file(path, error) ? path : "";
}

}  // namespace thermocline::model
