// --kv-cache-dtype: the types in which keys and values can be stored.
#pragma once

#include <string_view>

#include "base/dtype.h"
#include "base/status.h"

namespace thermocline::model {

// "f32", "f16", or "auto", which is F32. kInvalidArgument names the flag and lists these.
Result<DType> ParseKvDtype(std::string_view name);

}  // namespace thermocline::model
