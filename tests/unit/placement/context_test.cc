#include "placement/context.h"

#include <gtest/gtest.h>

namespace thermocline::placement {
namespace {

model::ModelConfig TrainedFor(int n_ctx) {
  model::ModelConfig config;
  config.n_ctx_train = n_ctx;
  return config;
}

int64_t Mean(int n_ctx_train, int n_ctx, int n_parallel, int64_t n_streams) {
  const PlanRequest request{.n_ctx = n_ctx, .n_parallel = n_parallel};
  const auto demand = DemandOf(TrainedFor(n_ctx_train), request);
  EXPECT_TRUE(demand.ok()) << demand.status();
  return MeanContext(*demand, request, n_streams);
}

TEST(MeanContext, IsHalfOfWhatAStreamMayStore) {
  EXPECT_EQ(Mean(4096, 512, 4, 4), 256);
  EXPECT_EQ(Mean(4096, 512, 4, 1), 256);
  // Eight streams share the KV of four sequences.
  EXPECT_EQ(Mean(4096, 512, 4, 8), 128);
}

TEST(MeanContext, AContextThatNobodyAskedForIsAConversation) {
  EXPECT_EQ(Mean(131072, 0, 4, 4), kDefaultContextTokens / 2);
  EXPECT_EQ(Mean(512, 0, 4, 4), 256);
  EXPECT_EQ(Mean(131072, 32768, 4, 4), 16384);
}

TEST(DepthToPlanFor, IsTheMeanOrWhatAContextHasRoomFor) {
  const PlanRequest request{.n_ctx = 512, .n_parallel = 4};
  const auto depth = [&](std::optional<int64_t> wished) {
    return DepthToPlanFor(TrainedFor(4096), request, 4, wished);
  };
  EXPECT_EQ(*depth(std::nullopt), 256);
  EXPECT_EQ(*depth(0), 0);
  EXPECT_EQ(*depth(512), 512);
  const Status status = depth(513).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "--depth is above the longest context: depth=513 n_ctx=512");
  EXPECT_TRUE(DepthToPlanFor(TrainedFor(4096), {}, 4, 4096).ok());
  EXPECT_FALSE(DepthToPlanFor(TrainedFor(4096), {}, 4, 4097).ok());
}

}  // namespace
}  // namespace thermocline::placement
