// How fast this machine reads and multiplies: a short measurement for a roofline.
#pragma once

#include <map>
#include <span>
#include <string>

#include "base/dtype.h"
#include "base/status.h"

namespace thermocline::tools {

// Of products with weights of one type that lie in the caches: what decoding and multiplying them
// costs by itself.
struct FlopRates {
  double decode_per_s = 0;   // one token
  double prefill_per_s = 0;  // kPrefillTokens tokens
};

inline constexpr int kPrefillTokens = 64;

struct MachineRates {
  std::string device;  // "cpu avx512 x2"
  int n_threads = 1;
  double bytes_per_s = 0;            // streamed from memory
  double gather_bytes_per_s = 0;     // a tenth of 4 KiB rows
  std::map<DType, FlopRates> flops;  // F32 always
};

// Takes about 0.3 s. kInvalidArgument when n_threads < 1, kResourceExhausted without memory for it.
Result<MachineRates> MeasureRates(int n_threads, std::span<const DType> dtypes);

}  // namespace thermocline::tools
