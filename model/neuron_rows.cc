#include "model/neuron_rows.h"

#include <array>

#include "base/str.h"

namespace thermocline::model {
namespace {

constexpr std::array kAll = {NeuronRows::kAsIs, NeuronRows::kFp8E4M3, NeuronRows::kFp8E5M2};

bool HoldsNeurons(WeightRole role) {
  return role == WeightRole::kFfnGate || role == WeightRole::kFfnUp ||
         role == WeightRole::kFfnDown || role == WeightRole::kFfnDownT;
}

}  // namespace

std::string_view NeuronRowsName(NeuronRows rows) {
  switch (rows) {
    case NeuronRows::kAsIs:
      return "as-is";
    case NeuronRows::kFp8E4M3:
      return "fp8-e4m3";
    case NeuronRows::kFp8E5M2:
      return "fp8-e5m2";
  }
  return "?";
}

Result<NeuronRows> ParseNeuronRows(std::string_view name) {
  for (const NeuronRows rows : kAll) {
    if (name == NeuronRowsName(rows)) return rows;
  }
  return InvalidArgument(
      Str("rows of neurons are none of as-is, fp8-e4m3 and fp8-e5m2: ", Printable(name)));
}

std::optional<DType> Fp8TypeOf(NeuronRows rows) {
  switch (rows) {
    case NeuronRows::kAsIs:
      return std::nullopt;
    case NeuronRows::kFp8E4M3:
      return DType::kFp8E4M3;
    case NeuronRows::kFp8E5M2:
      return DType::kFp8E5M2;
  }
  return std::nullopt;
}

HeldWeight HeldIn(NeuronRows rows, WeightRole role, const HeldWeight& as_is) {
  const std::optional<DType> fp8 = Fp8TypeOf(rows);
  if (!fp8 || !HoldsNeurons(role) || !IsFloat(as_is.dtype)) return as_is;
  const auto divides = [&](int64_t n) { return n % Traits(*fp8).block_elems == 0; };
  if (!divides(as_is.n_rows) || !divides(as_is.n_cols)) return as_is;
  return {*fp8, as_is.n_rows, as_is.n_cols};
}

}  // namespace thermocline::model
