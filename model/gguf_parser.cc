#include "model/gguf_parser.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <string>
#include <utility>

#include "base/str.h"
#include "base/units.h"
#include "model/gguf_types.h"
#include "model/gguf_value.h"

namespace thermocline::model {
namespace {

// The magics as the little-endian u32 that a file starts with.
constexpr uint32_t kMagicGguf = 0x46554747;        // "GGUF"
constexpr uint32_t kMagicPowerInfer = 0x49525750;  // "PWRI"

// Least bytes of one entry in the file, to hold counts against what is left of it.
constexpr uint64_t kMinKeyValueBytes = 8 + 1 + 4 + 1;            // key of one byte, type, u8
constexpr uint64_t kMinTensorInfoBytes = 8 + 1 + 4 + 8 + 4 + 8;  // name of one byte, one dimension

constexpr std::string_view kAlignmentKey = "general.alignment";
constexpr std::string_view kSplitCountKey = "split.count";

}  // namespace

Result<GgufFile> GgufParser::Run() {
  TC_RETURN_IF_ERROR(ParseMagic());
  TC_RETURN_IF_ERROR(ParseCounts());
  for (uint64_t i = 0; i < n_keys_; ++i) {
    if (Status status = ParseKeyValue(); !status.ok()) {
      return status.WithContext(Str("metadata key ", i));
    }
  }
  if (parts_ == GgufParts::kRefuse) TC_RETURN_IF_ERROR(CheckNoSplit());
  for (uint64_t i = 0; i < n_tensors_; ++i) {
    if (Status status = ParseTensorInfo(); !status.ok()) {
      return status.WithContext(Str("tensor ", i));
    }
  }
  out_.header_bytes_ = cursor_.position();
  TC_RETURN_IF_ERROR(PlaceTensors());
  TC_RETURN_IF_ERROR(CheckOverlap());
  return std::move(out_);
}

Status GgufParser::ParseMagic() {
  uint32_t magic = 0;
  if (Status status = cursor_.Read(&magic); !status.ok()) return status.WithContext("magic");
  if (magic != kMagicGguf && magic != kMagicPowerInfer) {
    return InvalidArgument(
        Str("not a GGUF file: magic is not \"GGUF\" or \"PWRI\"", Kv("magic", magic)));
  }
  out_.dialect_ = magic == kMagicGguf ? GgufDialect::kGguf : GgufDialect::kPowerInfer;
  uint32_t version = 0;
  if (Status status = cursor_.Read(&version); !status.ok()) return status.WithContext("version");
  if (version != 0 && (version & 0xffff) == 0) {
    return InvalidArgument(
        Str("byte-swapped version: a big-endian GGUF file", Kv("version", version)));
  }
  if (version != 2 && version != 3) {
    return InvalidArgument(
        Str("unsupported GGUF version; 2 and 3 are known", Kv("version", version)));
  }
  out_.version_ = version;
  return OkStatus();
}

Status GgufParser::ParseCount(std::string_view what, uint64_t min_elem_bytes, uint64_t max,
                              uint64_t* count) {
  if (Status status = cursor_.Read(count); !status.ok()) return status.WithContext(what);
  if (*count > cursor_.remaining() / min_elem_bytes) {
    return DataLoss(Str(what, " does not fit the file:", Kv("count", *count),
                        Kv("min_entry_bytes", min_elem_bytes), Kv("left", cursor_.remaining())));
  }
  if (*count > max) {
    return InvalidArgument(Str(what, " too large:", Kv("count", *count), Kv("max", max)));
  }
  return OkStatus();
}

Status GgufParser::ParseCounts() {
  TC_RETURN_IF_ERROR(ParseCount("tensor count", kMinTensorInfoBytes, kMaxTensors, &n_tensors_));
  return ParseCount("metadata count", kMinKeyValueBytes, kMaxMetadataKeys, &n_keys_);
}

Status GgufParser::ParseKeyValue() {
  std::string key;
  if (Status status = cursor_.ReadString(1, kMaxKeyBytes, &key); !status.ok()) {
    return status.WithContext("name");
  }
  GgufValueType type{};
  GgufValue value;
  if (Status status = ReadGgufValue(cursor_, &type, &value); !status.ok()) {
    return status.WithContext(Printable(key));
  }
  const auto [entry, is_new] = out_.metadata_.try_emplace(std::move(key), std::move(value));
  if (!is_new) return DataLoss(Str("key occurs twice: ", Printable(entry->first)));
  if (entry->first == kAlignmentKey) {
    if (type != GgufValueType::kU32) {
      return InvalidArgument(
          Str(kAlignmentKey, " must be u32:", Kv("type", GgufValueTypeName(type))));
    }
    return ParseAlignment();
  }
  return OkStatus();
}

Status GgufParser::ParseAlignment() {
  TC_ASSIGN_OR_RETURN(const int64_t alignment, out_.GetInt(kAlignmentKey));
  alignment_ = static_cast<uint64_t>(alignment);
  if (!std::has_single_bit(alignment_) || alignment_ < kMinAlignment ||
      alignment_ > kMaxAlignment) {
    return InvalidArgument(Str(kAlignmentKey,
                               " must be a power of two within bounds:", Kv("value", alignment_),
                               Kv("min", kMinAlignment), Kv("max", kMaxAlignment)));
  }
  return OkStatus();
}

Status GgufParser::CheckNoSplit() const {
  if (!out_.Has(kSplitCountKey)) return OkStatus();
  TC_ASSIGN_OR_RETURN(const int64_t n_parts, out_.GetInt(kSplitCountKey));
  if (n_parts <= 1) return OkStatus();
  return InvalidArgument(
      Str("model is split over several files; join them with "
          "`llama-gguf-split --merge FIRST-PART OUT.gguf`:",
          Kv(kSplitCountKey, n_parts)));
}

Status GgufParser::ParseTensorInfo() {
  TensorInfo tensor;
  if (Status status = cursor_.ReadString(1, kMaxTensorNameBytes, &tensor.name); !status.ok()) {
    return status.WithContext("name");
  }
  const std::string name = Printable(tensor.name);
  for (const auto part :
       {&GgufParser::ParseShape, &GgufParser::ParseDType, &GgufParser::ParseOffset}) {
    if (Status status = (this->*part)(&tensor); !status.ok()) return status.WithContext(name);
  }
  if (!out_.tensor_index_.try_emplace(tensor.name, out_.tensors_.size()).second) {
    return DataLoss(Str("tensor name occurs twice: ", name));
  }
  out_.tensors_.push_back(std::move(tensor));
  return OkStatus();
}

Status GgufParser::ParseShape(TensorInfo* tensor) {
  uint32_t n_dims = 0;
  if (Status status = cursor_.Read(&n_dims); !status.ok()) return status.WithContext("n_dims");
  if (n_dims == 0 || n_dims > kMaxDims) {
    return InvalidArgument(
        Str("n_dims out of bounds:", Kv("n_dims", n_dims), Kv("min", 1), Kv("max", kMaxDims)));
  }
  int64_t n_elems = 1;
  for (uint32_t i = 0; i < n_dims; ++i) {
    int64_t dim = 0;
    if (Status status = cursor_.Read(&dim); !status.ok()) return status.WithContext("dimension");
    if (dim <= 0) {
      return DataLoss(Str("dimension must be positive:", Kv("index", i), Kv("dimension", dim)));
    }
    if (__builtin_mul_overflow(n_elems, dim, &n_elems)) {
      return DataLoss(Str("dimension product overflows:", Kv("index", i), Kv("dimension", dim)));
    }
    tensor->shape.push_back(dim);
  }
  std::reverse(tensor->shape.begin(), tensor->shape.end());
  return OkStatus();
}

Status GgufParser::ParseDType(TensorInfo* tensor) {
  uint32_t id = 0;
  if (Status status = cursor_.Read(&id); !status.ok()) return status.WithContext("type");
  const GgufTensorType type = TensorTypeOf(out_.dialect_, id);
  if (type.name.empty()) return InvalidArgument(Str("unknown tensor type:", Kv("id", id)));
  if (!type.dtype.has_value()) {
    return InvalidArgument(Str("unsupported tensor type: ", type.name,
                               "; F32 F16 BF16 Q8_0 Q4_0 Q4_K Q5_K Q6_K are supported",
                               Kv("id", id)));
  }
  tensor->dtype = *type.dtype;
  const DTypeTraits traits = Traits(tensor->dtype);
  const auto n_cols = static_cast<uint64_t>(tensor->n_cols());
  if (n_cols % traits.block_elems != 0) {
    return DataLoss(Str("row is not a whole number of ", traits.name, " blocks:", Kv("row", n_cols),
                        Kv("block", traits.block_elems)));
  }
  uint64_t row_bytes = 0;
  if (!MulChecked(n_cols / traits.block_elems, traits.block_bytes, &row_bytes) ||
      !MulChecked(static_cast<uint64_t>(tensor->n_rows()), row_bytes, &tensor->size_bytes)) {
    return DataLoss(Str("tensor size overflows:", Kv("rows", tensor->n_rows()), Kv("row", n_cols)));
  }
  return OkStatus();
}

// The offset in the file is relative to the data section, whose begin PlaceTensors adds.
Status GgufParser::ParseOffset(TensorInfo* tensor) {
  if (Status status = cursor_.Read(&tensor->offset_bytes); !status.ok()) {
    return status.WithContext("offset");
  }
  if (tensor->offset_bytes % alignment_ != 0) {
    return DataLoss(Str("offset is not aligned:", Kv("offset", tensor->offset_bytes),
                        Kv("alignment", alignment_)));
  }
  return OkStatus();
}

Status GgufParser::PlaceTensors() {
  const uint64_t data_begin = RoundUp(out_.header_bytes_, alignment_);
  for (TensorInfo& tensor : out_.tensors_) {
    uint64_t end = 0;
    if (!AddChecked(tensor.offset_bytes, data_begin, &tensor.offset_bytes) ||
        !AddChecked(tensor.offset_bytes, tensor.size_bytes, &end)) {
      end = std::numeric_limits<uint64_t>::max();
    }
    if (end > file_bytes_) {
      return DataLoss(Str("tensor outside file: ", Printable(tensor.name), Kv("end", end),
                          Kv("file", file_bytes_)));
    }
  }
  return OkStatus();
}

Status GgufParser::CheckOverlap() const {
  std::vector<const TensorInfo*> by_offset;
  for (const TensorInfo& tensor : out_.tensors_) by_offset.push_back(&tensor);
  std::sort(by_offset.begin(), by_offset.end(), [](const TensorInfo* a, const TensorInfo* b) {
    return a->offset_bytes < b->offset_bytes;
  });
  for (size_t i = 1; i < by_offset.size(); ++i) {
    const TensorInfo& first = *by_offset[i - 1];
    const TensorInfo& second = *by_offset[i];
    const uint64_t first_end = first.offset_bytes + first.size_bytes;
    if (first_end > second.offset_bytes) {
      return DataLoss(Str("tensors overlap: ", Printable(first.name), " and ",
                          Printable(second.name), Kv("end", first_end),
                          Kv("begin", second.offset_bytes)));
    }
  }
  return OkStatus();
}

Result<GgufFile> GgufFile::Parse(const RangeReader& reader, GgufParts parts) {
  Result<GgufFile> file = GgufParser(reader, parts).Run();
  if (!file.ok()) return file.status().WithContext(reader.name());
  return file;
}

}  // namespace thermocline::model
