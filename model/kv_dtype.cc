#include "model/kv_dtype.h"

#include <string>
#include <utility>

#include "base/str.h"

namespace thermocline::model {

Result<DType> ParseKvDtype(std::string_view name) {
  std::string known;
  for (const auto& [text, dtype] :
       {std::pair{"f32", DType::kF32}, {"f16", DType::kF16}, {"auto", DType::kF32}}) {
    if (name == text) return dtype;
    known += Str(" ", text);
  }
  return InvalidArgument(Str("unknown --kv-cache-dtype \"", Printable(name), "\"; one of", known));
}

}  // namespace thermocline::model
