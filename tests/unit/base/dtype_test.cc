#include "base/dtype.h"

#include <gtest/gtest.h>

#include <set>

namespace thermocline {
namespace {

TEST(DType, BlocksHaveTheBytesOfTheirParts) {
  EXPECT_EQ(Traits(DType::kQ8_0).block_bytes, 2u + 32u);
  EXPECT_EQ(Traits(DType::kQ4_0).block_bytes, 2u + 16u);
  EXPECT_EQ(Traits(DType::kQ4_K).block_bytes, 2u + 2u + 12u + 128u);
  EXPECT_EQ(Traits(DType::kQ5_K).block_bytes, 2u + 2u + 12u + 32u + 128u);
  EXPECT_EQ(Traits(DType::kQ6_K).block_bytes, 128u + 64u + 16u + 2u);
}

TEST(DType, RowBytesAreWholeBlocks) {
  EXPECT_EQ(RowBytes(DType::kF32, 10), 40u);
  EXPECT_EQ(RowBytes(DType::kBF16, 10), 20u);
  EXPECT_EQ(RowBytes(DType::kQ4_0, 64), 36u);
  EXPECT_EQ(RowBytes(DType::kQ6_K, 512), 420u);
  EXPECT_EQ(RowBytes(DType::kF32, uint64_t{1} << 40), uint64_t{1} << 42);
}

TEST(DType, EveryTypeHasANameOfItsOwn) {
  std::set<std::string_view> names;
  for (int i = 0; i < kNumDTypes; ++i) names.insert(DTypeName(static_cast<DType>(i)));
  EXPECT_EQ(names.size(), static_cast<size_t>(kNumDTypes));
  EXPECT_FALSE(names.contains("?"));
}

TEST(DType, OnlyThreeAreFloats) {
  int n_floats = 0;
  for (int i = 0; i < kNumDTypes; ++i) n_floats += IsFloat(static_cast<DType>(i)) ? 1 : 0;
  EXPECT_EQ(n_floats, 3);
  EXPECT_TRUE(IsFloat(DType::kBF16));
  EXPECT_FALSE(IsFloat(DType::kI32));
}

}  // namespace
}  // namespace thermocline
