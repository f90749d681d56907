// Sizes and durations as people write them: "1.8G", "32K", "12.3 MB".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace thermocline {

inline constexpr uint64_t kKiB = uint64_t{1} << 10;
inline constexpr uint64_t kMiB = uint64_t{1} << 20;
inline constexpr uint64_t kGiB = uint64_t{1} << 30;

// Bytes from "4096", "64K", "1.8G", "512MiB" (all powers of 1024). kInvalidArgument names the text.
Result<uint64_t> ParseBytes(std::string_view text);
// A count from "4096", "32K" (32768) or "32k" (32000), as vLLM reads them. kInvalidArgument names
// the text.
Result<int64_t> ParseCount(std::string_view text);
// "9.1 MiB".
std::string FormatBytes(uint64_t bytes);

// a + b and a * b for sizes that came from outside; false when they would wrap.
[[nodiscard]] inline bool AddChecked(uint64_t a, uint64_t b, uint64_t* sum) {
  return !__builtin_add_overflow(a, b, sum);
}
[[nodiscard]] inline bool MulChecked(uint64_t a, uint64_t b, uint64_t* product) {
  return !__builtin_mul_overflow(a, b, product);
}

inline constexpr uint64_t DivCeil(uint64_t a, uint64_t b) { return (a + b - 1) / b; }
inline constexpr uint64_t RoundUp(uint64_t a, uint64_t b) { return DivCeil(a, b) * b; }

}  // namespace thermocline
