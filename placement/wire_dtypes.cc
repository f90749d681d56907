#include "placement/wire_dtypes.h"

#include <string>
#include <utility>

#include "base/str.h"

namespace thermocline::placement {

Result<WireDtypes> ParseWireDtypes(std::string_view name) {
  const std::pair<std::string_view, WireDtypes> choices[] = {{"f32", {}},
                                                             {"f16", {DType::kF16, {}}},
                                                             {"bf16", {DType::kBF16, {}}},
                                                             {"auto", {DType::kF32, DType::kF16}}};
  std::string known;
  for (const auto& [text, wire] : choices) {
    if (name == text) return wire;
    known += Str(" ", text);
  }
  return InvalidArgument(Str("unknown --wire-dtype \"", Printable(name), "\"; one of", known));
}

}  // namespace thermocline::placement
