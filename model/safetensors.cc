#include "model/safetensors.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "base/str.h"
#include "base/units.h"
#include "model/gguf_parser.h"

namespace thermocline::model {
namespace {

using nlohmann::json;

constexpr std::string_view kMetadataKey = "__metadata__";
constexpr uint64_t kLengthBytes = 8;
// Longest name of a tensor; those of published models have about 100 bytes.
constexpr size_t kMaxNameBytes = 1024;

struct TypeSize {
  std::string_view name;
  uint64_t bytes;
};
constexpr TypeSize kTypeSizes[] = {{"BOOL", 1},    {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1},
                                   {"F8_E5M2", 1}, {"I16", 2}, {"U16", 2}, {"F16", 2},
                                   {"BF16", 2},    {"I32", 4}, {"U32", 4}, {"F32", 4},
                                   {"I64", 8},     {"U64", 8}, {"F64", 8}};

std::optional<uint64_t> BytesOfType(std::string_view type) {
  for (const TypeSize& row : kTypeSizes) {
    if (row.name == type) return row.bytes;
  }
  return std::nullopt;
}

Status BadTensor(std::string_view what, const std::string& name) {
  return DataLoss(Str(what, ": ", Printable(name)));
}

Status ReadShape(const json& entry, SafetensorsTensor* tensor) {
  const auto shape = entry.find("shape");
  if (shape == entry.end() || !shape->is_array() || shape->size() > kMaxDims) {
    return BadTensor(Str("shape is no array of up to ", kMaxDims, " numbers"), tensor->name);
  }
  for (const json& dim : *shape) {
    constexpr uint64_t kMaxDim = uint64_t{1} << 40;
    if (!dim.is_number_unsigned() || dim.get<uint64_t>() > kMaxDim) {
      return BadTensor("dimension out of bounds", tensor->name);
    }
    tensor->shape.push_back(dim.get<int64_t>());
  }
  return OkStatus();
}

Status ReadOffsets(const json& entry, uint64_t data_begin, uint64_t file_bytes,
                   SafetensorsTensor* tensor) {
  const auto offsets = entry.find("data_offsets");
  if (offsets == entry.end() || !offsets->is_array() || offsets->size() != 2 ||
      !(*offsets)[0].is_number_unsigned() || !(*offsets)[1].is_number_unsigned()) {
    return BadTensor("data_offsets are not two numbers", tensor->name);
  }
  const auto begin = (*offsets)[0].get<uint64_t>();
  const auto end = (*offsets)[1].get<uint64_t>();
  if (begin > end || end > file_bytes - data_begin) {
    return DataLoss(Str("tensor outside file: ", Printable(tensor->name), Kv("begin", begin),
                        Kv("end", end), Kv("data", file_bytes - data_begin)));
  }
  tensor->offset_bytes = data_begin + begin;
  tensor->size_bytes = end - begin;
  return OkStatus();
}

Status CheckSize(const SafetensorsTensor& tensor) {
  const std::optional<uint64_t> elem_bytes = BytesOfType(tensor.type);
  if (!elem_bytes) return OkStatus();
  uint64_t n_bytes = *elem_bytes;
  for (const int64_t dim : tensor.shape) {
    if (!MulChecked(n_bytes, static_cast<uint64_t>(dim), &n_bytes)) {
      return BadTensor("shape overflows", tensor.name);
    }
  }
  if (n_bytes == tensor.size_bytes) return OkStatus();
  return DataLoss(Str("tensor's size is not that of its shape: ", Printable(tensor.name),
                      Kv("shape", n_bytes), Kv("data", tensor.size_bytes)));
}

Result<SafetensorsTensor> ReadTensor(const std::string& name, const json& entry,
                                     uint64_t data_begin, uint64_t file_bytes) {
  SafetensorsTensor tensor;
  tensor.name = name;
  if (name.empty() || name.size() > kMaxNameBytes) {
    return InvalidArgument(
        Str("tensor name out of bounds:", Kv("bytes", name.size()), Kv("max", kMaxNameBytes)));
  }
  if (!entry.is_object()) return BadTensor("tensor is no object", name);
  const auto type = entry.find("dtype");
  if (type == entry.end() || !type->is_string()) return BadTensor("dtype is no text", name);
  tensor.type = type->get<std::string>();
  TC_RETURN_IF_ERROR(ReadShape(entry, &tensor));
  TC_RETURN_IF_ERROR(ReadOffsets(entry, data_begin, file_bytes, &tensor));
  TC_RETURN_IF_ERROR(CheckSize(tensor));
  return tensor;
}

Status CheckOverlap(const std::vector<SafetensorsTensor>& tensors) {
  for (size_t i = 1; i < tensors.size(); ++i) {
    const SafetensorsTensor& first = tensors[i - 1];
    const SafetensorsTensor& second = tensors[i];
    if (first.offset_bytes + first.size_bytes <= second.offset_bytes) continue;
    return DataLoss(
        Str("tensors overlap: ", Printable(first.name), " and ", Printable(second.name)));
  }
  return OkStatus();
}

// The JSON of the header; nullopt when it is none. A name that occurs twice counts as none: the
// last of the two would win silently.
std::optional<json> ParseHeader(const std::string& text) {
  bool is_sound = true;
  std::vector<std::string> names;
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > kMaxSafetensorsDepth) is_sound = false;
    if (event == json::parse_event_t::key && depth == 1) names.push_back(parsed.get<std::string>());
    return is_sound;
  };
  json header = json::parse(text, watch, false);
  std::sort(names.begin(), names.end());
  if (std::adjacent_find(names.begin(), names.end()) != names.end()) is_sound = false;
  if (!is_sound || !header.is_object()) return std::nullopt;
  return header;
}

Result<std::string> ReadHeaderText(const RangeReader& reader) {
  uint64_t n_bytes = 0;
  if (reader.size_bytes() < kLengthBytes) {
    return DataLoss(Str("safetensors file too short:", Kv("bytes", reader.size_bytes())));
  }
  TC_RETURN_IF_ERROR(reader.Read(0, std::as_writable_bytes(std::span(&n_bytes, 1))));
  if (n_bytes > kMaxSafetensorsHeaderBytes) {
    return InvalidArgument(Str("not a safetensors file, or its header is too long:",
                               Kv("header", n_bytes), Kv("max", kMaxSafetensorsHeaderBytes)));
  }
  if (n_bytes > reader.size_bytes() - kLengthBytes) {
    return DataLoss(Str("safetensors header outside file:", Kv("header", n_bytes),
                        Kv("file", reader.size_bytes())));
  }
  std::string text(n_bytes, '\0');
  TC_RETURN_IF_ERROR(reader.Read(kLengthBytes, std::as_writable_bytes(std::span(text))));
  return text;
}

Result<std::vector<SafetensorsTensor>> Read(const RangeReader& reader) {
  TC_ASSIGN_OR_RETURN(const std::string text, ReadHeaderText(reader));
  const std::optional<json> header = ParseHeader(text);
  if (!header) return DataLoss("safetensors header is no sound JSON object");
  const uint64_t data_begin = kLengthBytes + text.size();
  std::vector<SafetensorsTensor> tensors;
  for (const auto& [name, entry] : header->items()) {
    if (name == kMetadataKey) continue;
    TC_ASSIGN_OR_RETURN(SafetensorsTensor tensor,
                        ReadTensor(name, entry, data_begin, reader.size_bytes()));
    tensors.push_back(std::move(tensor));
  }
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    return std::pair(a.offset_bytes, a.size_bytes) < std::pair(b.offset_bytes, b.size_bytes);
  });
  TC_RETURN_IF_ERROR(CheckOverlap(tensors));
  return tensors;
}

}  // namespace

Result<std::vector<SafetensorsTensor>> ReadSafetensors(const RangeReader& reader) {
  auto tensors = Read(reader);
  if (!tensors.ok()) return tensors.status().WithContext(reader.name());
  return tensors;
}

Result<DType> SafetensorsWeightType(const SafetensorsTensor& tensor) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    if (DTypeName(dtype) == tensor.type) return dtype;
  }
  return InvalidArgument(Str("unsupported weight type: ", Printable(tensor.name), " is ",
                             Printable(tensor.type), "; F32 F16 BF16 are supported"));
}

}  // namespace thermocline::model
