// Reads an architecture's metadata keys with bounds and defaults.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "model/gguf.h"

namespace thermocline::model {

// Least and largest value that a key may have.
struct IntBounds {
  int64_t min = 0;
  int64_t max = 0;
};

// Borrows the file; owned by the function that builds a ModelConfig. `suffix` is a key without its
// "<architecture>." prefix. Absent keys give the fallback, or kInvalidArgument from the functions
// that take none; a wrong type or a value out of bounds is kInvalidArgument and names the whole
// key. Thread-compatible.
class MetadataReader {
 public:
  MetadataReader(const GgufFile& file, std::string arch) : file_(file), prefix_(arch + ".") {}

  std::string Key(std::string_view suffix) const { return prefix_ + std::string(suffix); }
  bool Has(std::string_view suffix) const { return file_.Has(Key(suffix)); }

  // One value for the whole model: a scalar, or a per-layer array of equal entries.
  Result<int> Count(std::string_view suffix, IntBounds bounds) const;
  Result<int> CountOr(std::string_view suffix, IntBounds bounds, int fallback) const;
  // Finite.
  Result<float> Float(std::string_view suffix) const;
  Result<float> FloatOr(std::string_view suffix, float fallback) const;
  Result<std::string> StringOr(std::string_view suffix, std::string_view fallback) const;
  Result<bool> BoolOr(std::string_view suffix, bool fallback) const;

 private:
  Result<int64_t> UniformInt(const std::string& key) const;

  const GgufFile& file_;
  std::string prefix_;
};

}  // namespace thermocline::model
