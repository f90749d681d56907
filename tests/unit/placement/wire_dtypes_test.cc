#include "placement/wire_dtypes.h"

#include <gtest/gtest.h>

#include <optional>
#include <utility>

namespace thermocline::placement {
namespace {

TEST(WireDtypes, TakesWhatItsErrorListsAndNothingElse) {
  EXPECT_EQ(ParseWireDtypes("q8").status().message(),
            "unknown --wire-dtype \"q8\"; one of f32 f16 bf16 auto");
  for (const auto& [text, dtype] :
       {std::pair{"f32", DType::kF32}, {"f16", DType::kF16}, {"bf16", DType::kBF16}}) {
    EXPECT_EQ(ParseWireDtypes(text)->within, dtype);
    EXPECT_EQ(ParseWireDtypes(text)->between, std::nullopt);
  }
  EXPECT_EQ(ParseWireDtypes("auto")->within, DType::kF32);
  EXPECT_EQ(ParseWireDtypes("auto")->between, DType::kF16);
  for (const char* other : {"", "q8_0", "F16", "f32 "}) {
    EXPECT_EQ(ParseWireDtypes(other).status().code(), StatusCode::kInvalidArgument) << other;
  }
}

}  // namespace
}  // namespace thermocline::placement
