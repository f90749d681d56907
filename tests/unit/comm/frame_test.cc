#include "comm/frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "base/rng.h"
#include "tests/support/frames.h"
#include "tests/support/status_matchers.h"

namespace thermocline::comm {
namespace {

using ::testing::HasSubstr;
using ::thermocline::testing::IsOk;
using ::thermocline::testing::MakeFrame;
using ::thermocline::testing::SameFrame;
using ::thermocline::testing::ViewOf;

std::vector<std::byte> Encoded(const Frame& frame) {
  std::vector<std::byte> bytes;
  EncodeFrame(ViewOf(frame), &bytes);
  return bytes;
}

void Patch(std::vector<std::byte>* bytes, size_t offset, uint32_t value) {
  std::memcpy(bytes->data() + offset, &value, sizeof(value));
}

TEST(Frame, HasThePrefixOfTheFormat) {
  const auto bytes = Encoded({{std::byte{0xaa}}, {std::byte{0xbb}, std::byte{0xcc}}});
  const std::vector<uint8_t> expected = {'T', 'C', 'F', '1', 1, 0, 0,    0,    2,   0,
                                         0,   0,   0,   0,   0, 0, 0xaa, 0xbb, 0xcc};
  ASSERT_EQ(bytes.size(), expected.size());
  EXPECT_EQ(std::memcmp(bytes.data(), expected.data(), expected.size()), 0);
}

TEST(Frame, DecodeInvertsEncode) {
  Frame decoded;  // reused, so that what a longer frame left behind would show
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Frame frame = MakeFrame(seed, static_cast<size_t>(UniformAt(seed, 0) * 3000));
    frame.header.resize(static_cast<size_t>(UniformAt(seed, 1) * 300));
    ASSERT_THAT(DecodeFrame(Encoded(frame), &decoded), IsOk()) << "seed " << seed;
    ASSERT_TRUE(SameFrame(decoded, frame)) << "seed " << seed;
  }
}

TEST(Frame, EveryTruncationIsDataLoss) {
  const auto bytes = Encoded(MakeFrame(3, 20));
  Frame frame;
  for (size_t n = 0; n < bytes.size(); ++n) {
    EXPECT_EQ(DecodeFrame(std::span(bytes).first(n), &frame).code(), StatusCode::kDataLoss) << n;
  }
}

TEST(Frame, NamesWhatIsMalformed) {
  struct Lie {
    size_t offset;
    uint32_t value;
    const char* message;
  };
  constexpr uint32_t kAll = 0xffffffff;
  for (const Lie& lie : {Lie{0, 1, "wrong magic"}, Lie{4, kMaxHeaderBytes + 1, "header over its"},
                         Lie{4, kAll, "header over its"}, Lie{12, 1, "payload over its"},
                         Lie{12, kAll, "payload over its"}, Lie{8, 21, "cut short"},
                         Lie{8, 19, "left over"}, Lie{4, 9, "cut short"}, Lie{4, 0, "left over"}}) {
    auto bytes = Encoded(MakeFrame(3, 20));
    Patch(&bytes, lie.offset, lie.value);
    Frame frame;
    const Status status = DecodeFrame(bytes, &frame);
    EXPECT_EQ(status.code(), StatusCode::kDataLoss);
    EXPECT_THAT(status.message(), HasSubstr(lie.message));
  }
}

TEST(Frame, AHeadTellsWhatIsMissing) {
  const Frame frame = MakeFrame(3, 20);
  std::vector<std::byte> head;
  EncodeFrameHead(ViewOf(frame), &head);
  EXPECT_EQ(head.size(), kFramePrefixBytes + frame.header.size());
  EXPECT_EQ(*MissingPayloadBytes(head), 20u);
  EXPECT_TRUE(std::ranges::equal(HeaderOfHead(head), frame.header));
  EXPECT_EQ(*MissingPayloadBytes(Encoded(frame)), 0u);
  auto cut = Encoded(frame);
  cut.pop_back();
  EXPECT_EQ(MissingPayloadBytes(cut).status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(MissingPayloadBytes(std::span(head).first(15)).status().code(), StatusCode::kDataLoss);
  Patch(&head, 12, 1);
  EXPECT_EQ(MissingPayloadBytes(head).status().code(), StatusCode::kDataLoss);
}

TEST(Frame, LimitsAreInclusive) {
  const std::vector<std::byte> bytes(kMaxHeaderBytes + 1);
  const std::span<const std::byte> all(bytes);
  EXPECT_THAT(CheckFrameLimits({all.first(kMaxHeaderBytes), {}}), IsOk());
  EXPECT_EQ(CheckFrameLimits({all, {}}).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace thermocline::comm
