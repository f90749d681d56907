// What --wire-dtype says of activations on links, for all programs that take it.
#pragma once

#include <optional>
#include <string_view>

#include "base/dtype.h"
#include "base/status.h"

namespace thermocline::placement {

struct WireDtypes {
  DType within = DType::kF32;    // a host, and between hosts
  std::optional<DType> between;  // hosts, where it is another one
};

// f32, f16 or bf16 everywhere; auto: f32 within a host and f16 between hosts. kInvalidArgument for
// anything else.
Result<WireDtypes> ParseWireDtypes(std::string_view name);

}  // namespace thermocline::placement
