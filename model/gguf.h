// The GGUF v3 container (and v2, same layout) and PowerInfer's PWRI dialect of it, read with every
// field checked against the file before memory is taken.
//
// Source: github.com/ggml-org/ggml docs/gguf.md; PowerInfer's magic `PWRI` and its old type id 18
// for I32. Shapes are stored innermost first; this reader turns them once, so that everywhere else
// in Thermocline w[n_out, n_in].
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"
#include "model/range_reader.h"

namespace thermocline::model {

enum class GgufDialect : uint8_t { kGguf, kPowerInfer };

// One metadata value. Integers keep their signedness but are widened; arrays are homogeneous.
using GgufValue = std::variant<uint64_t, int64_t, double, bool, std::string, std::vector<uint64_t>,
                               std::vector<int64_t>, std::vector<double>, std::vector<bool>,
                               std::vector<std::string>>;

struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  // outermost first; 1 to 4 dimensions
  uint64_t offset_bytes = 0;   // from the start of the file
  uint64_t size_bytes = 0;

  int64_t n_cols() const { return shape.back(); }
  int64_t n_rows() const;  // product of all but the last dimension
};

// Whether one part of a model that is split over several files may be parsed by itself: its header
// is whole, but its tensors are not all there are.
enum class GgufParts : uint8_t { kRefuse, kAllow };

// A parsed header; owns no weight bytes. Immutable, so thread-safe.
class GgufFile {
 public:
  // Parses the header of `reader`. Errors name the field and, for tensors, the tensor:
  // kInvalidArgument for a file that is not GGUF or is of an unsupported version or tensor type,
  // kDataLoss for one that is truncated or contradicts itself.
  static Result<GgufFile> Parse(const RangeReader& reader, GgufParts parts = GgufParts::kRefuse);

  GgufDialect dialect() const { return dialect_; }
  uint32_t version() const { return version_; }
  // Metadata and tensor infos occupy [0, header_bytes()); the data section follows, aligned.
  uint64_t header_bytes() const { return header_bytes_; }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const TensorInfo* FindTensor(std::string_view name) const;

  const std::map<std::string, GgufValue, std::less<>>& metadata() const { return metadata_; }
  bool Has(std::string_view key) const { return metadata_.contains(key); }
  // Typed access. kNotFound when the key is absent, kInvalidArgument when its type does not fit
  // (integers convert when the value is representable).
  Result<int64_t> GetInt(std::string_view key) const;
  Result<double> GetFloat(std::string_view key) const;
  Result<bool> GetBool(std::string_view key) const;
  Result<std::string> GetString(std::string_view key) const;
  Result<std::vector<std::string>> GetStrings(std::string_view key) const;
  Result<std::vector<double>> GetFloats(std::string_view key) const;
  Result<std::vector<int64_t>> GetInts(std::string_view key) const;

 private:
  friend class GgufParser;
  GgufDialect dialect_ = GgufDialect::kGguf;
  uint32_t version_ = 3;
  uint64_t header_bytes_ = 0;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, size_t, std::less<>> tensor_index_;
};

}  // namespace thermocline::model
