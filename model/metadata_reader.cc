#include "model/metadata_reader.h"

#include <cmath>
#include <vector>

#include "base/str.h"

namespace thermocline::model {
namespace {

// A key that the model cannot do without is missing: the file is at fault, not the lookup.
Status AsInvalid(const Status& status) {
  return status.code() == StatusCode::kNotFound ? InvalidArgument(status.message()) : status;
}

}  // namespace

Result<int64_t> MetadataReader::UniformInt(const std::string& key) const {
  if (Result<int64_t> scalar = file_.GetInt(key); scalar.ok()) return scalar;
  Result<std::vector<int64_t>> per_layer = file_.GetInts(key);
  // Not an array either: report it as what it should be.
  if (!per_layer.ok()) return AsInvalid(file_.GetInt(key).status());
  if (per_layer->empty()) return InvalidArgument(Str("metadata array is empty: ", key));
  const int64_t first = per_layer->front();
  for (const int64_t value : *per_layer) {
    if (value != first) {
      return InvalidArgument(Str("layers that differ are not supported: ", key, Kv("first", first),
                                 Kv("other", value)));
    }
  }
  return first;
}

Result<int> MetadataReader::Count(std::string_view suffix, IntBounds bounds) const {
  TC_ASSIGN_OR_RETURN(const int64_t value, UniformInt(Key(suffix)));
  if (value < bounds.min || value > bounds.max) {
    return InvalidArgument(Str("metadata value out of bounds: ", Key(suffix), Kv("value", value),
                               Kv("min", bounds.min), Kv("max", bounds.max)));
  }
  return static_cast<int>(value);
}

Result<int> MetadataReader::CountOr(std::string_view suffix, IntBounds bounds, int fallback) const {
  if (!Has(suffix)) return fallback;
  return Count(suffix, bounds);
}

Result<float> MetadataReader::Float(std::string_view suffix) const {
  const Result<double> value = file_.GetFloat(Key(suffix));
  if (!value.ok()) return AsInvalid(value.status());
  const auto narrow = static_cast<float>(*value);
  if (!std::isfinite(narrow)) {
    return InvalidArgument(Str("metadata value is not finite: ", Key(suffix), Kv("value", *value)));
  }
  return narrow;
}

Result<float> MetadataReader::FloatOr(std::string_view suffix, float fallback) const {
  if (!Has(suffix)) return fallback;
  return Float(suffix);
}

Result<std::string> MetadataReader::StringOr(std::string_view suffix,
                                             std::string_view fallback) const {
  if (!Has(suffix)) return std::string(fallback);
  return file_.GetString(Key(suffix));
}

Result<bool> MetadataReader::BoolOr(std::string_view suffix, bool fallback) const {
  if (!Has(suffix)) return fallback;
  return file_.GetBool(Key(suffix));
}

}  // namespace thermocline::model
