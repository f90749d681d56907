#include "tools/convert/conversion_plan.h"

#include <algorithm>
#include <cctype>
#include <string_view>
#include <utility>

#include "base/str.h"

namespace thermocline::tools {
namespace {

constexpr std::string_view kDown = ".ffn_down.weight";
constexpr std::string_view kDownRows = ".ffn_down_t.weight";

// Version of the quantised block layouts; upstream wants the key where blocks are quantised.
constexpr uint32_t kQuantizationVersion = 2;

bool IsMatrix(const SourceTensor& tensor) {
  return tensor.shape.size() >= 2 && tensor.dtype() != DType::kI32;
}

bool IsHead(const SourceTensor& tensor) {
  return tensor.name == "output.weight" || tensor.name == "token_embd.weight";
}

bool Fits(DType dtype, int64_t n_cols) {
  return static_cast<uint64_t>(n_cols) % Traits(dtype).block_elems == 0;
}

// The wanted type, or where rows are not whole blocks of it Q8_0, and where they are not whole
// blocks of that either F16.
DType NearestFit(DType wanted, int64_t n_cols) {
  if (Fits(wanted, n_cols)) return wanted;
  return Fits(DType::kQ8_0, n_cols) ? DType::kQ8_0 : DType::kF16;
}

// Rows of a quantised ffn_down are rounded a second time, so without a wish they get the 8-bit
// type, whose step is far below that of the 4- to 6-bit types they come from.
DType WantedType(const SourceTensor& source, bool transpose, const ConversionOptions& options) {
  if (options.output_dtype && IsHead(source)) return *options.output_dtype;
  if (options.dtype) return *options.dtype;
  return transpose && !IsFloat(source.dtype()) ? DType::kQ8_0 : source.dtype();
}

PlannedTensor PlanTensor(const SourceTensor& source, const ConversionOptions& options) {
  PlannedTensor planned;
  planned.source = &source;
  planned.target = {source.name, source.dtype(), source.shape};
  if (source.dtype() == DType::kI32) {
    planned.note = "integers stay as they are";
    return planned;
  }
  if (!IsMatrix(source)) {
    planned.target.dtype = DType::kF32;
    if (options.dtype && *options.dtype != DType::kF32) planned.note = "norms and biases stay F32";
    return planned;
  }
  planned.transpose = options.neuron_rows && source.name.ends_with(kDown);
  if (planned.transpose) {
    planned.target.name.replace(source.name.size() - kDown.size(), kDown.size(), kDownRows);
    std::swap(planned.target.shape[0], planned.target.shape[1]);
  }
  const DType wanted = WantedType(source, planned.transpose, options);
  planned.target.dtype = NearestFit(wanted, planned.target.n_cols());
  if (planned.target.dtype != wanted) {
    planned.note = Str("rows of ", planned.target.n_cols(), " are not whole ", DTypeName(wanted),
                       " blocks of ", Traits(wanted).block_elems);
  }
  return planned;
}

Status CheckNeuronRows(const SourceModel& source) {
  const auto has = [&](std::string_view suffix) {
    return std::any_of(source.tensors.begin(), source.tensors.end(),
                       [&](const SourceTensor& t) { return t.name.ends_with(suffix); });
  };
  if (has(kDown)) return OkStatus();
  return InvalidArgument(has(kDownRows) ? "--neuron-rows: the model has neuron rows already"
                                        : "--neuron-rows: the model has no ffn_down.weight");
}

// The type of most weight bytes.
DType MainType(const std::vector<PlannedTensor>& tensors) {
  uint64_t n_bytes[kNumDTypes] = {};
  for (const PlannedTensor& tensor : tensors) {
    n_bytes[static_cast<size_t>(tensor.target.dtype)] += tensor.target.size_bytes();
  }
  const auto most = std::max_element(std::begin(n_bytes), std::end(n_bytes));
  return static_cast<DType>(most - std::begin(n_bytes));
}

}  // namespace

Result<ConversionPlan> PlanConversion(const SourceModel& source, const ConversionOptions& options) {
  if (options.neuron_rows) TC_RETURN_IF_ERROR(CheckNeuronRows(source));
  ConversionPlan plan;
  plan.metadata = source.metadata;
  for (const SourceTensor& tensor : source.tensors) {
    plan.tensors.push_back(PlanTensor(tensor, options));
  }
  const DType main_type = MainType(plan.tensors);
  plan.metadata.SetU32("general.file_type", FileTypeOf(main_type));
  if (!IsFloat(main_type)) {
    plan.metadata.SetU32("general.quantization_version", kQuantizationVersion);
  }
  return plan;
}

Result<DType> ParseWeightType(const std::string& name) {
  std::string upper = name;
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  for (int i = 0; i < kNumDTypes; ++i) {
    const auto dtype = static_cast<DType>(i);
    const bool is_of_files = dtype != DType::kI32 && !IsFp8(dtype);
    if (is_of_files && DTypeName(dtype) == upper) return dtype;
  }
  return InvalidArgument(Str("unknown weight type \"", Printable(name),
                             "\"; one of f32 f16 bf16 q8_0 q4_0 q4_k q5_k q6_k"));
}

// Source of the numbers: llama_ftype of upstream's llama.h, which people read off file listings.
uint32_t FileTypeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kI32:
    case DType::kFp8E4M3:  // of no file
    case DType::kFp8E5M2:
      return 0;
    case DType::kF16:
      return 1;
    case DType::kQ4_0:
      return 2;
    case DType::kQ8_0:
      return 7;
    case DType::kQ4_K:
      return 14;
    case DType::kQ5_K:
      return 16;
    case DType::kQ6_K:
      return 18;
    case DType::kBF16:
      return 32;
  }
  return 0;
}

}  // namespace thermocline::tools
