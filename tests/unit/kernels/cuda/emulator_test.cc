// The emulator itself: threads meet as on a GPU, and kernels that are wrong are found out.
#include "kernels/cuda/emulator.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <vector>

#include "kernels/cuda/simt.cuh"

namespace thermocline::kernels::cuda::emulated {
namespace {

constexpr int kThreads = 96;

// Runs a body per thread of one block; what each returns, by thread.
template <typename T>
std::vector<T> OnABlock(bool is_reversed, const std::function<T()>& body) {
  std::vector<T> results(kThreads);
  emulator::RunGrid(
      {{1, 1, 1}, kThreads}, [&] { results[static_cast<size_t>(ThreadIndex())] = body(); },
      is_reversed);
  return results;
}

TEST(EmulatorTest, ThreadsKnowTheirPlace) {
  std::vector<int> seen(2 * 3 * 2 * 64);
  emulator::RunGrid(
      {{2, 3, 2}, 64},
      [&] {
        EXPECT_EQ(ThreadCount(), 64);
        EXPECT_EQ(BlockCount().y, 3);
        const Index3 block = BlockIndex();
        ++seen[static_cast<size_t>(((block.z * 3 + block.y) * 2 + block.x) * 64 + ThreadIndex())];
      },
      false);
  EXPECT_EQ(seen, std::vector<int>(seen.size(), 1));
}

TEST(EmulatorTest, LanesExchangeWithinTheirWarp) {
  for (const bool is_reversed : {false, true}) {
    const auto xored = OnABlock<int>(is_reversed, [] { return ShuffleXor(ThreadIndex(), 5); });
    const auto shifted = OnABlock<int>(is_reversed, [] { return ShuffleUp(ThreadIndex(), 2); });
    const auto bits =
        OnABlock<uint32_t>(is_reversed, [] { return Ballot(ThreadIndex() % 3 == 0); });
    const auto sums = OnABlock<int>(is_reversed, [] { return WarpSum(ThreadIndex()); });
    const auto most =
        OnABlock<float>(is_reversed, [] { return WarpMax(static_cast<float>(-ThreadIndex())); });
    for (int i = 0; i < kThreads; ++i) {
      const int lane = i % kWarp, first = i - lane;
      const auto at = static_cast<size_t>(i);
      EXPECT_EQ(xored[at], first + (lane ^ 5));
      EXPECT_EQ(shifted[at], lane < 2 ? i : i - 2);
      uint32_t expected = 0;
      for (int l = 0; l < kWarp; ++l) expected |= uint32_t{(first + l) % 3 == 0} << l;
      EXPECT_EQ(bits[at], expected);
      EXPECT_EQ(sums[at], kWarp * first + kWarp * (kWarp - 1) / 2);
      EXPECT_EQ(most[at], static_cast<float>(-first));
    }
  }
}

// The tree of WarpSum is that of five shuffles.
TEST(EmulatorTest, WarpSumHasTheOrderOfShuffles) {
  const auto value = [] { return 1.0f / static_cast<float>(ThreadIndex() + 3); };
  const auto sums = OnABlock<float>(false, [&] { return WarpSum(value()); });
  const auto steps = OnABlock<float>(false, [&] {
    float sum = value();
    for (int d = kWarp / 2; d > 0; d /= 2) sum += ShuffleXor(sum, d);
    return sum;
  });
  EXPECT_EQ(sums, steps);
}

TEST(EmulatorTest, ABlockWaitsForAllOfItsThreads) {
  for (const bool is_reversed : {false, true}) {
    std::vector<int> shared(kThreads);
    const auto read = OnABlock<int>(is_reversed, [&] {
      int sum = 0;
      for (int round = 1; round <= 3; ++round) {
        shared[static_cast<size_t>(ThreadIndex())] = round * ThreadIndex();
        SyncBlock();
        sum += shared[static_cast<size_t>((ThreadIndex() + 50) % kThreads)];
        SyncBlock();
      }
      return sum;
    });
    for (int i = 0; i < kThreads; ++i) {
      EXPECT_EQ(read[static_cast<size_t>(i)], 6 * ((i + 50) % kThreads));
    }
  }
}

// One of the two orders shows a barrier that is not there.
TEST(EmulatorTest, AForgottenBarrierShows) {
  const auto run = [](bool is_reversed) {
    std::vector<int> shared(kThreads);
    return OnABlock<int>(is_reversed, [&] {
      shared[static_cast<size_t>(ThreadIndex())] = 1;
      return shared[static_cast<size_t>((ThreadIndex() + 50) % kThreads)];
    });
  };
  EXPECT_NE(run(false), run(true));
}

TEST(EmulatorDeathTest, ABarrierThatSomeThreadsMissEndsTheTest) {
  EXPECT_DEATH(OnABlock<int>(false,
                             [] {
                               if (ThreadIndex() != 7) SyncBlock();
                               return 0;
                             }),
               "is_running");
}

TEST(EmulatorDeathTest, AWideLoadWantsItsAlignment) {
  alignas(16) const std::byte bytes[32] = {};
  EXPECT_EQ(Load16(bytes + 16).v[0], 0u);
  EXPECT_DEATH((void)Load16(bytes + 8), "n_bytes");
  EXPECT_DEATH((void)Load4(bytes + 2), "n_bytes");
}

// As the GPU's instruction: products of signed bytes.
TEST(SimtTest, Dp4aMultipliesSignedBytes) {
  EXPECT_EQ(Dp4a(0x7f80ff01u, 0x81807f02u, 10), 127 * -127 + -128 * -128 + -1 * 127 + 1 * 2 + 10);
}

TEST(SimtTest, IntegersRoundToEvenAndSaturate) {
  EXPECT_EQ(RoundToInt(2.5f), 2);
  EXPECT_EQ(RoundToInt(-3.5f), -4);
  EXPECT_EQ(RoundToInt(kInfinity), INT32_MAX);
  EXPECT_EQ(RoundToInt(-3e38f), INT32_MIN);
  EXPECT_EQ(RoundToInt(kInfinity - kInfinity), 0);
}

}  // namespace
}  // namespace thermocline::kernels::cuda::emulated
