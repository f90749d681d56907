// How a worker holds the rows of its neurons in memory: as they are, or, where somebody asked for
// it, in 8 bits, which is not exact.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/dtype.h"
#include "base/status.h"
#include "model/weights.h"

namespace thermocline::model {

enum class NeuronRows : uint8_t { kAsIs, kFp8E4M3, kFp8E5M2 };
inline constexpr NeuronRows kLastNeuronRows = NeuronRows::kFp8E5M2;

// "as-is", "fp8-e4m3", "fp8-e5m2", as flags and files say it.
std::string_view NeuronRowsName(NeuronRows rows);
// kInvalidArgument names what is none of them.
Result<NeuronRows> ParseNeuronRows(std::string_view name);

// The type of rows in 8 bits; none: as they are.
std::optional<DType> Fp8TypeOf(NeuronRows rows);

// A weight that others hold as `as_is`, on a worker with such rows: gate, up and down of an FFN in
// FP8 where they are floats and blocks of 32 divide both their sides, whichever of them is a row.
// Quantised weights take no more bytes than FP8 does, and stay.
HeldWeight HeldIn(NeuronRows rows, WeightRole role, const HeldWeight& as_is);

}  // namespace thermocline::model
