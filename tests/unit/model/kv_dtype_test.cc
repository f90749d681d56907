#include "model/kv_dtype.h"

#include <gtest/gtest.h>

namespace thermocline::model {
namespace {

TEST(KvDtype, TakesWhatItsErrorListsAndNothingElse) {
  const std::string error = ParseKvDtype("q8").status().message();
  EXPECT_EQ(error, "unknown --kv-cache-dtype \"q8\"; one of f32 f16 auto");
  EXPECT_EQ(*ParseKvDtype("f32"), DType::kF32);
  EXPECT_EQ(*ParseKvDtype("f16"), DType::kF16);
  EXPECT_EQ(*ParseKvDtype("auto"), DType::kF32);
  for (const char* other : {"", "bf16", "q8_0", "F16", "f32 "}) {
    EXPECT_EQ(ParseKvDtype(other).status().code(), StatusCode::kInvalidArgument) << other;
  }
}

}  // namespace
}  // namespace thermocline::model
