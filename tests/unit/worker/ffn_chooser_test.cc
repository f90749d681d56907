#include "worker/ffn_chooser.h"

#include <gtest/gtest.h>

#include <vector>

namespace thermocline::worker {
namespace {

using std::chrono::microseconds;

// Runs `n` batches of `n_tokens` in layer 0, where candidate i takes times_us[i], and counts them.
std::vector<int> RunBatches(FfnChooser* chooser, int n, int64_t n_tokens,
                            const std::vector<int>& times_us) {
  std::vector<int> n_chosen(times_us.size());
  for (int i = 0; i < n; ++i) {
    const int chosen = chooser->Choose(0, n_tokens);
    ++n_chosen[static_cast<size_t>(chosen)];
    chooser->Record(0, n_tokens, chosen, microseconds(times_us[static_cast<size_t>(chosen)]));
  }
  return n_chosen;
}

FfnChooser Chooser(int n_candidates, int n_layers = 1) {
  return FfnChooser(std::vector<int>(static_cast<size_t>(n_layers), n_candidates));
}

TEST(FfnChooser, TriesEachAFewTimesThenTakesTheFastest) {
  FfnChooser chooser = Chooser(3);
  std::vector<int> order;
  for (int i = 0; i < 10; ++i) {
    const int chosen = chooser.Choose(0, 1);
    order.push_back(chosen);
    chooser.Record(0, 1, chosen, microseconds(chosen == 1 ? 10 : 15));
  }
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 0, 1, 2, 0, 1, 2, 1}));
  EXPECT_EQ(chooser.Favourite(0), 1);
}

TEST(FfnChooser, TheHopelessIsTriedOnce) {
  FfnChooser chooser = Chooser(2);
  EXPECT_EQ(RunBatches(&chooser, 100, 1, {100, 10}), (std::vector<int>{1, 99}));
}

TEST(FfnChooser, OneDisturbanceDoesNotDecide) {
  FfnChooser chooser = Chooser(2);
  const std::vector<int> times_us = {10, 12, 500, 12, 10, 12};  // in turn: 0, 1, 0, 1, 0, 1
  for (const int time_us : times_us) {
    chooser.Record(0, 1, chooser.Choose(0, 1), microseconds(time_us));
  }
  EXPECT_EQ(chooser.Choose(0, 1), 0);
}

// On a busy machine most times are too long.
TEST(FfnChooser, NorDoThreeOfFour) {
  FfnChooser chooser = Chooser(2);
  RunBatches(&chooser, 6, 1, {10, 20});
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(chooser.Choose(0, 1), 0) << i;
    chooser.Record(0, 1, 0, microseconds(i % 4 == 0 ? 10 : 500));
  }
}

TEST(FfnChooser, OthersAreCheckedAgainRarely) {
  FfnChooser chooser = Chooser(3);
  RunBatches(&chooser, 9, 1, {10, 15, 15});
  const auto n_chosen = RunBatches(&chooser, 4 * FfnChooser::kRecheckEvery, 1, {10, 15, 15});
  EXPECT_EQ(n_chosen[1], 2);
  EXPECT_EQ(n_chosen[2], 2);
}

TEST(FfnChooser, FollowsADrift) {
  FfnChooser chooser = Chooser(2);
  RunBatches(&chooser, 6, 1, {10, 15});
  EXPECT_EQ(chooser.Favourite(0), 0);
  RunBatches(&chooser, 4 * FfnChooser::kRecheckEvery, 1, {30, 15});
  EXPECT_EQ(chooser.Favourite(0), 1);
}

TEST(FfnChooser, SizesAndLayersAreApart) {
  FfnChooser chooser = Chooser(2, 2);
  RunBatches(&chooser, 20, 1, {100, 10});
  EXPECT_EQ(RunBatches(&chooser, 20, 64, {100, 1000})[1], 1);
  EXPECT_EQ(chooser.Choose(0, 1), 1);
  EXPECT_EQ(chooser.Choose(0, 40), 0);
  EXPECT_EQ(chooser.Choose(1, 1), 0);
}

TEST(FfnChooser, TimesCountPerTokenWithinASize) {
  FfnChooser chooser = Chooser(2);
  for (int i = 0; i < FfnChooser::kSamples; ++i) {
    chooser.Record(0, 5, 0, microseconds(60));
    chooser.Record(0, 8, 1, microseconds(80));
  }
  EXPECT_EQ(chooser.Choose(0, 6), 1);
}

TEST(FfnChooser, ASingleCandidateNeedsNoTimes) {
  FfnChooser chooser = Chooser(1);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(chooser.Choose(0, 1 + i), 0);
  EXPECT_EQ(chooser.Favourite(0), 0);
}

TEST(FfnChooser, BucketsDouble) {
  EXPECT_EQ(FfnChooser::BucketOf(1), 0);
  EXPECT_EQ(FfnChooser::BucketOf(2), 1);
  EXPECT_EQ(FfnChooser::BucketOf(3), 2);
  EXPECT_EQ(FfnChooser::BucketOf(4), 2);
  EXPECT_EQ(FfnChooser::BucketOf(5), 3);
  EXPECT_EQ(FfnChooser::BucketOf(512), 9);
  EXPECT_EQ(FfnChooser::BucketOf(int64_t{1} << 40), FfnChooser::kBuckets - 1);
}

// Many more batches than samples are kept: nothing overflows or is tried for ever.
TEST(FfnChooser, SettlesForGood) {
  FfnChooser chooser = Chooser(2);
  const int n = 100 * FfnChooser::kRecheckEvery;
  const auto n_chosen = RunBatches(&chooser, n, 1, {10, 11});
  EXPECT_EQ(n_chosen[1], FfnChooser::kTrials + 99);
}

}  // namespace
}  // namespace thermocline::worker
