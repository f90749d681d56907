#include "proto/messages.h"

#include <gtest/gtest.h>

#include <vector>

#include "proto/codec.h"

namespace thermocline::proto {
namespace {

TEST(StepBatch, CountsItsTokens) {
  EXPECT_EQ((StepBatch{.entries = {{.tokens = {1, 2}}, {.tokens = {3}}}}).n_tokens(), 3);
}

TEST(DecodeOfEpoch, AFrameOfAnEarlierPlanIsNoneWhateverItsKind) {
  const auto encoded = [](const Message& message) {
    std::vector<std::byte> bytes;
    Encode(message, &bytes);
    return bytes;
  };
  const Part part{.epoch = {3}, .step = {9}, .layer = 1, .n_rows = 2};
  const auto own = DecodeOfEpoch<Part>(encoded(part), {3});
  ASSERT_TRUE(own.ok()) << own.status();
  EXPECT_EQ(*own, part);
  for (const Message& earlier :
       {Message(Part{.epoch = {2}, .n_rows = 1}), Message(StepBatch{.epoch = {2}})}) {
    const auto stale = DecodeOfEpoch<Part>(encoded(earlier), {3});
    ASSERT_TRUE(stale.ok()) << stale.status();
    EXPECT_FALSE(stale->has_value());
  }
  for (const Message& other : {Message(StepBatch{.epoch = {3}}), Message(Shutdown{"bye"})}) {
    EXPECT_EQ(DecodeOfEpoch<Part>(encoded(other), {3}).status().code(), StatusCode::kDataLoss);
  }
}

}  // namespace
}  // namespace thermocline::proto
