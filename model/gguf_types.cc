#include "model/gguf_types.h"

#include <span>

namespace thermocline::model {
namespace {

struct TypeRow {
  uint32_t id;
  GgufTensorType type;
};

// Shared by both dialects: ids below 16 have not changed since PowerInfer left.
constexpr TypeRow kCommonTypes[] = {
    {0, {"F32", DType::kF32}},
    {1, {"F16", DType::kF16}},
    {2, {"Q4_0", DType::kQ4_0}},
    {3, {"Q4_1", {}}},
    {6, {"Q5_0", {}}},
    {7, {"Q5_1", {}}},
    {8, {"Q8_0", DType::kQ8_0}},
    {9, {"Q8_1", {}}},
    {10, {"Q2_K", {}}},
    {11, {"Q3_K", {}}},
    {12, {"Q4_K", DType::kQ4_K}},
    {13, {"Q5_K", DType::kQ5_K}},
    {14, {"Q6_K", DType::kQ6_K}},
    {15, {"Q8_K", {}}},
};

constexpr TypeRow kGgufTypes[] = {
    {16, {"IQ2_XXS", {}}}, {17, {"IQ2_XS", {}}}, {18, {"IQ3_XXS", {}}},        {19, {"IQ1_S", {}}},
    {20, {"IQ4_NL", {}}},  {21, {"IQ3_S", {}}},  {22, {"IQ2_S", {}}},          {23, {"IQ4_XS", {}}},
    {24, {"I8", {}}},      {25, {"I16", {}}},    {26, {"I32", DType::kI32}},   {27, {"I64", {}}},
    {28, {"F64", {}}},     {29, {"IQ1_M", {}}},  {30, {"BF16", DType::kBF16}}, {34, {"TQ1_0", {}}},
    {35, {"TQ2_0", {}}},   {39, {"MXFP4", {}}},
};

// As of November 2023, when PowerInfer forked.
constexpr TypeRow kPowerInferTypes[] = {
    {16, {"I8", {}}}, {17, {"I16", {}}}, {18, {"I32", DType::kI32}}};

std::span<const TypeRow> OwnTypes(GgufDialect dialect) {
  if (dialect == GgufDialect::kPowerInfer) return kPowerInferTypes;
  return kGgufTypes;
}

}  // namespace

GgufTensorType TensorTypeOf(GgufDialect dialect, uint32_t type_id) {
  for (const std::span<const TypeRow> rows :
       {std::span<const TypeRow>(kCommonTypes), OwnTypes(dialect)}) {
    for (const TypeRow& row : rows) {
      if (row.id == type_id) return row.type;
    }
  }
  return {};
}

std::optional<uint32_t> TensorTypeId(GgufDialect dialect, DType dtype) {
  for (const std::span<const TypeRow> rows :
       {std::span<const TypeRow>(kCommonTypes), OwnTypes(dialect)}) {
    for (const TypeRow& row : rows) {
      if (row.type.dtype == dtype) return row.id;
    }
  }
  return std::nullopt;
}

}  // namespace thermocline::model
