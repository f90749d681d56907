#include "model/sparsity_profile.h"

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <utility>

#include "base/str.h"
#include "base/units.h"
#include "model/config.h"
#include "model/gguf.h"
#include "model/gguf_metadata.h"
#include "model/gguf_writer.h"

namespace thermocline::model {
namespace {

constexpr std::string_view kArchitectureKey = "general.architecture";
constexpr std::string_view kArchitecture = "thermocline.profile";
constexpr uint32_t kVersion = 1;
// Counts are I32, the format's integer type.
constexpr uint64_t kMaxTokens = std::numeric_limits<int32_t>::max();
constexpr size_t kNumRanges = 9;       // input, gate, activation; each min, max, mean magnitude
constexpr size_t kMaxGuardModes = 16;  // there are four
constexpr size_t kFingerprintDigits = 32;

std::string KeyOf(std::string_view name) { return Str("thermocline.profile.", name); }
std::string TensorOf(int layer, std::string_view name) { return Str("blk.", layer, ".", name); }

// Collects tensors with their bytes, then writes them.
class TensorList {
 public:
  template <typename T>
  void Add(std::string name, DType dtype, std::span<const T> values) {
    static_assert(sizeof(T) == 4);
    specs_.push_back({std::move(name), dtype, {static_cast<int64_t>(values.size())}});
    const auto bytes = std::as_bytes(values);
    data_.emplace_back(bytes.begin(), bytes.end());
  }
  Status WriteTo(const std::string& path, const GgufMetadata& metadata) const {
    TC_ASSIGN_OR_RETURN(const auto writer,
                        GgufWriter::Create(path, GgufDialect::kGguf, metadata, specs_));
    for (size_t i = 0; i < data_.size(); ++i) TC_RETURN_IF_ERROR(writer->Put(i, 0, data_[i]));
    return writer->Finish();
  }

 private:
  std::vector<GgufTensorSpec> specs_;
  std::vector<std::vector<std::byte>> data_;
};

Status CheckWritable(const SparsityProfile& profile) {
  if (profile.layers.empty()) return InvalidArgument("a profile needs at least one layer");
  if (profile.n_tokens == 0 || profile.n_tokens > kMaxTokens) {
    return InvalidArgument(Str("a profile cannot hold this number of tokens:",
                               Kv("tokens", profile.n_tokens), Kv("max", kMaxTokens)));
  }
  for (size_t i = 0; i < profile.layers.size(); ++i) {
    const auto n_ff = static_cast<int64_t>(profile.layers[i].fired.size());
    if (n_ff == 0 || n_ff != profile.n_ff()) {
      return InvalidArgument(Str("layers of a profile differ in their neurons:", Kv("layer", i),
                                 Kv("neurons", n_ff), Kv("first", profile.n_ff())));
    }
  }
  return OkStatus();
}

void AddLayer(const LayerActivity& layer, int index, TensorList* tensors) {
  std::vector<int32_t> fired;
  for (const uint64_t count : layer.fired) fired.push_back(static_cast<int32_t>(count));
  tensors->Add(TensorOf(index, "fired"), DType::kI32, std::span<const int32_t>(fired));
  if (!layer.peaks.empty()) {
    tensors->Add(TensorOf(index, "peaks"), DType::kF32, std::span<const float>(layer.peaks));
  }
  if (!layer.quantiles.empty()) {
    tensors->Add(TensorOf(index, "quantiles"), DType::kF32,
                 std::span<const float>(layer.quantiles));
    tensors->Add(TensorOf(index, "union"), DType::kF32, std::span<const float>(layer.union_shares));
    std::vector<float> ranges;
    for (const ValueRange* range : {&layer.input, &layer.gate, &layer.activation}) {
      ranges.insert(ranges.end(), {range->min, range->max, static_cast<float>(range->abs_mean())});
    }
    tensors->Add(TensorOf(index, "ranges"), DType::kF32, std::span<const float>(ranges));
  }
}

// What follows from the counts, for people who look into the file; readers compute it again.
void SetDerived(const SparsityProfile& profile, GgufMetadata* metadata) {
  std::vector<float> thresholds, density, gini, share;
  for (const LayerActivity& layer : profile.layers) {
    thresholds.push_back(layer.active_threshold);
    density.push_back(static_cast<float>(Density(layer.fired, profile.n_tokens)));
    gini.push_back(static_cast<float>(Gini(layer.fired)));
    share.push_back(static_cast<float>(ShareForMass(layer.fired, 0.8)));
  }
  metadata->SetF32s(KeyOf("active_thresholds"), thresholds);
  metadata->SetF32s(KeyOf("density"), density);
  metadata->SetF32s(KeyOf("gini"), gini);
  metadata->SetF32s(KeyOf("share_for_80_percent"), share);
}

void SetGuard(const GuardRecord& guard, GgufMetadata* metadata) {
  if (guard.results.empty()) return;
  std::vector<std::string> modes;
  std::vector<float> perplexities, losses;
  for (const GuardResult& result : guard.results) {
    modes.push_back(result.mode);
    perplexities.push_back(static_cast<float>(result.perplexity));
    losses.push_back(static_cast<float>(result.loss));
  }
  metadata->SetStrings(KeyOf("guard.modes"), modes);
  metadata->SetF32s(KeyOf("guard.perplexities"), perplexities);
  metadata->SetF32s(KeyOf("guard.losses"), losses);
  metadata->SetU64(KeyOf("guard.tokens"), guard.n_tokens);
  metadata->SetF32(KeyOf("guard.allowed_loss"), static_cast<float>(guard.allowed_loss));
}

// Reads one file; lives in ReadSparsityProfile.
class ProfileReader {
 public:
  ProfileReader(const GgufFile& file, const RangeReader& reader) : file_(file), reader_(reader) {}

  Result<SparsityProfile> Run() {
    TC_RETURN_IF_ERROR(CheckKind());
    SparsityProfile profile;
    TC_ASSIGN_OR_RETURN(profile.fingerprint, file_.GetString(KeyOf("model_fingerprint")));
    if (profile.fingerprint.size() != kFingerprintDigits) {
      return InvalidArgument(
          Str("profile with an impossible fingerprint: ", Printable(profile.fingerprint)));
    }
    TC_ASSIGN_OR_RETURN(profile.model_name, OptionalText(KeyOf("model_name")));
    TC_ASSIGN_OR_RETURN(profile.source, OptionalText(KeyOf("source")));
    TC_ASSIGN_OR_RETURN(const int64_t n_tokens, file_.GetInt(KeyOf("tokens")));
    if (n_tokens < 1 || static_cast<uint64_t>(n_tokens) > kMaxTokens) {
      return InvalidArgument(Str("profile of an impossible number of tokens:",
                                 Kv("tokens", n_tokens), Kv("max", kMaxTokens)));
    }
    profile.n_tokens = static_cast<uint64_t>(n_tokens);
    TC_ASSIGN_OR_RETURN(profile.n_tokens_is_guess, file_.GetBool(KeyOf("tokens_is_guess")));
    TC_RETURN_IF_ERROR(ReadLayers(&profile));
    TC_RETURN_IF_ERROR(ReadGuard(&profile.guard));
    return profile;
  }

 private:
  Status CheckKind() const {
    TC_ASSIGN_OR_RETURN(const std::string kind, file_.GetString(kArchitectureKey));
    if (kind != kArchitecture) {
      return InvalidArgument(Str("not a profile: ", kArchitectureKey, " is \"", Printable(kind),
                                 "\", not \"", kArchitecture, "\""));
    }
    TC_ASSIGN_OR_RETURN(const int64_t version, file_.GetInt(KeyOf("version")));
    if (version == kVersion) return OkStatus();
    return InvalidArgument(Str("profile of an unsupported version:", Kv("version", version),
                               Kv("supported", kVersion)));
  }

  Result<std::string> OptionalText(const std::string& key) const {
    return file_.Has(key) ? file_.GetString(key) : Result<std::string>(std::string());
  }

  Status ReadLayers(SparsityProfile* profile) const {
    TC_ASSIGN_OR_RETURN(const std::vector<double> thresholds,
                        file_.GetFloats(KeyOf("active_thresholds")));
    if (thresholds.empty() || thresholds.size() > kMaxLayers) {
      return InvalidArgument(Str("profile with an impossible number of layers:",
                                 Kv("layers", thresholds.size()), Kv("max", kMaxLayers)));
    }
    int64_t n_ff = 0;
    for (size_t i = 0; i < thresholds.size(); ++i) {
      LayerActivity layer;
      layer.active_threshold = static_cast<float>(thresholds[i]);
      TC_RETURN_IF_ERROR(ReadLayer(static_cast<int>(i), profile->n_tokens, &n_ff, &layer));
      profile->layers.push_back(std::move(layer));
    }
    return OkStatus();
  }

  Status ReadLayer(int index, uint64_t n_tokens, int64_t* n_ff, LayerActivity* layer) const {
    std::vector<int32_t> fired;
    TC_RETURN_IF_ERROR(ReadTensor(TensorOf(index, "fired"), DType::kI32, n_ff, &fired));
    for (const int32_t count : fired) {
      if (count < 0 || static_cast<uint64_t>(count) > n_tokens) {
        return InvalidArgument(Str("profile counts more activations than tokens:",
                                   Kv("layer", index), Kv("count", count), Kv("tokens", n_tokens)));
      }
      layer->fired.push_back(static_cast<uint64_t>(count));
    }
    if (file_.FindTensor(TensorOf(index, "peaks")) != nullptr) {
      TC_RETURN_IF_ERROR(ReadTensor(TensorOf(index, "peaks"), DType::kF32, n_ff, &layer->peaks));
    }
    if (file_.FindTensor(TensorOf(index, "quantiles")) == nullptr) return OkStatus();
    return ReadMeasured(index, layer);
  }

  Status ReadMeasured(int index, LayerActivity* layer) const {
    int64_t n = kNumQuantiles;
    TC_RETURN_IF_ERROR(
        ReadTensor(TensorOf(index, "quantiles"), DType::kF32, &n, &layer->quantiles));
    std::vector<float> values;
    n = kNumUnionBatches;
    TC_RETURN_IF_ERROR(ReadTensor(TensorOf(index, "union"), DType::kF32, &n, &values));
    std::copy(values.begin(), values.end(), layer->union_shares.begin());
    n = kNumRanges;
    TC_RETURN_IF_ERROR(ReadTensor(TensorOf(index, "ranges"), DType::kF32, &n, &values));
    size_t at = 0;
    for (ValueRange* range : {&layer->input, &layer->gate, &layer->activation}) {
      *range = {values[at], values[at + 1], values[at + 2], 1};
      at += 3;
    }
    return OkStatus();
  }

  // `length` is what the tensor must have; 0 takes any up to kMaxFf and is set to it.
  template <typename T>
  Status ReadTensor(const std::string& name, DType dtype, int64_t* length,
                    std::vector<T>* values) const {
    const TensorInfo* tensor = file_.FindTensor(name);
    if (tensor == nullptr) return InvalidArgument(Str("profile lacks a tensor: ", name));
    const int64_t n = tensor->n_cols();
    const bool fits = *length == 0 ? n >= 1 && n <= kMaxFf : n == *length;
    if (tensor->dtype != dtype || tensor->shape.size() != 1 || !fits) {
      return InvalidArgument(Str("tensor of a profile has another shape or type: ", name,
                                 Kv("type", DTypeName(tensor->dtype)), Kv("length", n),
                                 Kv("wanted_type", DTypeName(dtype)), Kv("wanted", *length)));
    }
    *length = n;
    values->resize(static_cast<size_t>(n));
    TC_RETURN_IF_ERROR(
        reader_.Read(tensor->offset_bytes, std::as_writable_bytes(std::span(*values))));
    if constexpr (std::is_same_v<T, float>) return CheckFinite(name, *values);
    return OkStatus();
  }

  static Status CheckFinite(const std::string& name, std::span<const float> values) {
    for (size_t i = 0; i < values.size(); ++i) {
      if (std::isfinite(values[i])) continue;
      return InvalidArgument(Str("tensor of a profile has a value that is not a number: ", name,
                                 Kv("index", i), Kv("value", values[i])));
    }
    return OkStatus();
  }

  Status ReadGuard(GuardRecord* guard) const {
    if (!file_.Has(KeyOf("guard.modes"))) return OkStatus();
    TC_ASSIGN_OR_RETURN(const auto modes, file_.GetStrings(KeyOf("guard.modes")));
    TC_ASSIGN_OR_RETURN(const auto perplexities, file_.GetFloats(KeyOf("guard.perplexities")));
    TC_ASSIGN_OR_RETURN(const auto losses, file_.GetFloats(KeyOf("guard.losses")));
    if (modes.size() > kMaxGuardModes || modes.size() != perplexities.size() ||
        modes.size() != losses.size()) {
      return InvalidArgument(Str("guard lists of a profile differ in length:",
                                 Kv("modes", modes.size()), Kv("perplexities", perplexities.size()),
                                 Kv("losses", losses.size()), Kv("max", kMaxGuardModes)));
    }
    for (size_t i = 0; i < modes.size(); ++i) {
      guard->results.push_back({modes[i], perplexities[i], losses[i]});
    }
    TC_ASSIGN_OR_RETURN(const int64_t n_tokens, file_.GetInt(KeyOf("guard.tokens")));
    guard->n_tokens = n_tokens < 0 ? 0 : static_cast<uint64_t>(n_tokens);
    TC_ASSIGN_OR_RETURN(guard->allowed_loss, file_.GetFloat(KeyOf("guard.allowed_loss")));
    return OkStatus();
  }

  const GgufFile& file_;
  const RangeReader& reader_;
};

}  // namespace

Status WriteSparsityProfile(const SparsityProfile& profile, const std::string& path) {
  TC_RETURN_IF_ERROR(CheckWritable(profile));
  GgufMetadata metadata;
  metadata.SetString(kArchitectureKey, kArchitecture);
  metadata.SetU32(KeyOf("version"), kVersion);
  metadata.SetString(KeyOf("model_fingerprint"), profile.fingerprint);
  metadata.SetString(KeyOf("model_name"), profile.model_name);
  metadata.SetString(KeyOf("source"), profile.source);
  metadata.SetU64(KeyOf("tokens"), profile.n_tokens);
  metadata.SetBool(KeyOf("tokens_is_guess"), profile.n_tokens_is_guess);
  SetDerived(profile, &metadata);
  SetGuard(profile.guard, &metadata);
  TensorList tensors;
  for (size_t i = 0; i < profile.layers.size(); ++i) {
    AddLayer(profile.layers[i], static_cast<int>(i), &tensors);
  }
  return tensors.WriteTo(path, metadata);
}

Result<SparsityProfile> ReadSparsityProfile(const RangeReader& reader) {
  TC_ASSIGN_OR_RETURN(const GgufFile file, GgufFile::Parse(reader));
  auto profile = ProfileReader(file, reader).Run();
  if (!profile.ok()) return profile.status().WithContext(reader.name());
  return profile;
}

Status CheckProfileOf(const SparsityProfile& profile, std::string_view fingerprint) {
  if (profile.fingerprint == fingerprint) return OkStatus();
  return InvalidArgument(Str("profile of another model:", Kv("model", fingerprint),
                             Kv("profile", Printable(profile.fingerprint))));
}

}  // namespace thermocline::model
