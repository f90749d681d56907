#include "tests/support/link_conformance.h"

#include <gtest/gtest.h>

#include <cstring>
#include <span>

#include "base/rng.h"
#include "tests/support/frames.h"
#include "tests/support/patience.h"
#include "tests/support/status_matchers.h"

namespace thermocline::testing {
namespace {

using comm::Frame;
using comm::FrameView;

TimePoint Soon() { return In(kPatience); }

void DeliversInOrder(LinkEnd end) {
  constexpr uint64_t kFrames = 500;
  Frame frame;
  for (uint64_t i = 0; i < kFrames; ++i) {
    if (end.index == 0) {
      ASSERT_THAT(end.link.Send(ViewOf(MakeFrame(i, 100)), Soon()), IsOk());
    } else {
      ASSERT_THAT(end.link.Receive(&frame, Soon()), IsOk());
      ASSERT_TRUE(SameFrame(frame, MakeFrame(i, 100))) << "frame " << i;
    }
  }
}

// Around the limits inside the transports: an empty payload, eager and rendezvous, several buffers.
void CarriesAllSizes(LinkEnd end) {
  Frame frame;
  for (const size_t n_bytes : {0, 1, 100, 4095, 4096, 65'535, 65'537, 1 << 20, 5 << 20}) {
    const Frame expected = MakeFrame(n_bytes, n_bytes);
    if (end.index == 0) {
      ASSERT_THAT(end.link.Send(ViewOf(expected), Soon()), IsOk());
    } else {
      ASSERT_THAT(end.link.Receive(&frame, Soon()), IsOk());
      ASSERT_TRUE(SameFrame(frame, expected)) << n_bytes << " bytes";
    }
  }
}

void CarriesEmptyFrame(LinkEnd end) {
  if (end.index == 0) {
    ASSERT_THAT(end.link.Send({}, Soon()), IsOk());
    return;
  }
  Frame frame = MakeFrame(1, 10);
  ASSERT_THAT(end.link.Receive(&frame, Soon()), IsOk());
  EXPECT_TRUE(frame.header.empty());
  EXPECT_TRUE(frame.payload.empty());
}

void AnswersBackAndForth(LinkEnd end) {
  Frame frame;
  for (uint64_t i = 0; i < 200; ++i) {
    if (end.index == 0) {
      ASSERT_THAT(end.link.Send(ViewOf(MakeFrame(i, 8192)), Soon()), IsOk());
      ASSERT_THAT(end.link.Receive(&frame, Soon()), IsOk());
      ASSERT_TRUE(SameFrame(frame, MakeFrame(i + 1, 10)));
    } else {
      ASSERT_THAT(end.link.Receive(&frame, Soon()), IsOk());
      ASSERT_TRUE(SameFrame(frame, MakeFrame(i, 8192)));
      ASSERT_THAT(end.link.Send(ViewOf(MakeFrame(i + 1, 10)), Soon()), IsOk());
    }
  }
}

// A sender that never receives: flushing alone brings its frames over.
void FlushSeesFramesOff(LinkEnd end) {
  constexpr uint64_t kFrames = 4;
  constexpr size_t kBytes = 1 << 20;
  if (end.index == 0) {
    for (uint64_t i = 0; i < kFrames; ++i) {
      ASSERT_THAT(end.link.Send(ViewOf(MakeFrame(i, kBytes)), Soon()), IsOk());
    }
    const TimePoint deadline = Soon();
    auto flushed = end.link.Flush();
    while (flushed.ok() && !*flushed && Now() < deadline) flushed = end.link.Flush();
    ASSERT_TRUE(flushed.ok()) << flushed.status();
    EXPECT_TRUE(*flushed);
    return;
  }
  Frame frame;
  for (uint64_t i = 0; i < kFrames; ++i) {
    ASSERT_THAT(end.link.Receive(&frame, Soon()), IsOk());
    ASSERT_TRUE(SameFrame(frame, MakeFrame(i, kBytes)));
  }
}

// Both ends send before either receives: within the window that must not wait for the other.
void BothSendLargeFirst(LinkEnd end) {
  constexpr uint64_t kFrames = 4;
  constexpr size_t kBytes = 1 << 20;
  for (uint64_t i = 0; i < kFrames; ++i) {
    ASSERT_THAT(end.link.Send(ViewOf(MakeFrame(i + end.index, kBytes)), Soon()), IsOk());
  }
  Frame frame;
  for (uint64_t i = 0; i < kFrames; ++i) {
    ASSERT_THAT(end.link.Receive(&frame, Soon()), IsOk());
    ASSERT_TRUE(SameFrame(frame, MakeFrame(i + 1 - end.index, kBytes)));
  }
}

void DeadlineEndsTheWait(LinkEnd end) {
  constexpr Duration kWait = std::chrono::milliseconds(20);
  Frame frame;
  if (end.index == 1) {
    const TimePoint begin = Now();
    EXPECT_EQ(end.link.Receive(&frame, In(kWait)).code(), StatusCode::kDeadlineExceeded);
    EXPECT_GE(Now() - begin, kWait);
    EXPECT_EQ(end.link.Receive(&frame, Now()).code(), StatusCode::kDeadlineExceeded);
  }
  end.barrier();
  // The link is as good as before.
  if (end.index == 0) {
    ASSERT_THAT(end.link.Send(ViewOf(MakeFrame(7, 10)), Soon()), IsOk());
  } else {
    ASSERT_THAT(end.link.Receive(&frame, Soon()), IsOk());
    EXPECT_TRUE(SameFrame(frame, MakeFrame(7, 10)));
  }
}

// Asked again and again without waiting, as whoever has other things to do.
void TryReceiveSeesWhatHasCome(LinkEnd end) {
  constexpr uint64_t kFrames = 20;
  Frame frame;
  if (end.index == 1) {
    const auto early = end.link.TryReceive(&frame);
    ASSERT_TRUE(early.ok()) << early.status();
    EXPECT_FALSE(*early);
  }
  end.barrier();
  for (uint64_t i = 0; i < kFrames; ++i) {
    if (end.index == 0) {
      ASSERT_THAT(end.link.Send(ViewOf(MakeFrame(i, 8192)), Soon()), IsOk());
      ASSERT_THAT(end.link.Receive(&frame, Soon()), IsOk());
      continue;
    }
    const TimePoint deadline = Soon();
    auto arrived = end.link.TryReceive(&frame);
    while (arrived.ok() && !*arrived && Now() < deadline) arrived = end.link.TryReceive(&frame);
    ASSERT_TRUE(arrived.ok()) << arrived.status();
    ASSERT_TRUE(SameFrame(frame, MakeFrame(i, 8192)));
    ASSERT_THAT(end.link.Send({}, Soon()), IsOk());
  }
}

void RefusesFrameOverLimit(LinkEnd end) {
  const std::vector<std::byte> header(comm::kMaxHeaderBytes + 1);
  EXPECT_EQ(end.link.Send({header, {}}, Soon()).code(), StatusCode::kInvalidArgument);
  // Refused by its size alone, so the bytes need not exist.
  const std::span<const std::byte> payload(header.data(), comm::kMaxPayloadBytes + 1);
  EXPECT_EQ(end.link.Send({{}, payload}, Soon()).code(), StatusCode::kInvalidArgument);
}

// A receiver that takes nothing stops the sender; what was sent arrives later, and the link goes
// on.
void FullWindowStopsTheSender(LinkEnd end) {
  constexpr size_t kBytes = 1 << 20;
  constexpr Duration kTry = std::chrono::milliseconds(50);
  const auto far_too_many = static_cast<uint64_t>(4 * comm::kLinkWindowFrames);
  Frame frame;
  if (end.index == 0) {
    uint64_t n_sent = 0;
    Status status;
    // On a loaded machine a frame may be late before that; the same one is sent again then.
    for (int n_late = 0; n_sent < far_too_many && n_late < kPatience / kTry;) {
      status = end.link.Send(ViewOf(MakeFrame(n_sent, kBytes)), In(kTry));
      if (status.ok()) {
        ++n_sent;
      } else if (n_sent >= static_cast<uint64_t>(end.window)) {
        break;
      } else {
        ++n_late;
      }
    }
    EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
    EXPECT_GE(n_sent, static_cast<uint64_t>(end.window));
    end.barrier();
    std::vector<std::byte> last(sizeof(n_sent));
    std::memcpy(last.data(), &n_sent, sizeof(n_sent));
    ASSERT_THAT(end.link.Send({{}, last}, Soon()), IsOk());
    ASSERT_THAT(end.link.Receive(&frame, Soon()), IsOk());
    return;
  }
  end.barrier();
  uint64_t n_received = 0;
  while (true) {
    ASSERT_THAT(end.link.Receive(&frame, Soon()), IsOk());
    if (frame.payload.size() == sizeof(uint64_t)) break;
    ASSERT_TRUE(SameFrame(frame, MakeFrame(n_received++, kBytes)));
  }
  uint64_t n_sent = 0;
  std::memcpy(&n_sent, frame.payload.data(), sizeof(n_sent));
  EXPECT_EQ(n_received, n_sent);
  ASSERT_THAT(end.link.Send({}, Soon()), IsOk());
}

void CountsFramesAndBytes(LinkEnd end) {
  const comm::LinkStats before = end.link.stats();
  Frame frame;
  if (end.index == 0) {
    ASSERT_THAT(end.link.Send(ViewOf(MakeFrame(1, 1000)), Soon()), IsOk());
  } else {
    ASSERT_THAT(end.link.Receive(&frame, Soon()), IsOk());
  }
  const comm::LinkStats after = end.link.stats();
  EXPECT_EQ(after.frames_sent - before.frames_sent, end.index == 0 ? 1u : 0u);
  EXPECT_EQ(after.frames_received - before.frames_received, end.index == 0 ? 0u : 1u);
  const uint64_t n_bytes =
      after.bytes_sent + after.bytes_received - before.bytes_sent - before.bytes_received;
  // The payload and a header and prefix that are far smaller.
  EXPECT_GE(n_bytes, 1000u);
  EXPECT_LT(n_bytes, 1100u);
}

// Seeded sizes in bursts of up to a window, answered by the next burst the other way.
void SurvivesRandomBursts(LinkEnd end) {
  constexpr uint64_t kSeed = 5;
  Frame frame;
  uint64_t position = 0;
  for (int burst = 0; burst < 20; ++burst) {
    const auto n_frames =
        static_cast<int>(1 + UniformAt(kSeed, position++) * (comm::kLinkWindowFrames - 1));
    for (int i = 0; i < n_frames; ++i) {
      const double draw = UniformAt(kSeed, position++);
      const auto n_bytes = static_cast<size_t>(draw * draw * draw * 100'000);
      const Frame expected = MakeFrame(position, n_bytes);
      if (end.index == burst % 2) {
        ASSERT_THAT(end.link.Send(ViewOf(expected), Soon()), IsOk());
      } else {
        ASSERT_THAT(end.link.Receive(&frame, Soon()), IsOk());
        ASSERT_TRUE(SameFrame(frame, expected)) << "seed " << kSeed << " position " << position;
      }
    }
  }
}

}  // namespace

const std::vector<LinkCase>& LinkConformanceCases() {
  static const std::vector<LinkCase> cases = {
      {"DeliversInOrder", DeliversInOrder},
      {"CarriesAllSizes", CarriesAllSizes},
      {"CarriesEmptyFrame", CarriesEmptyFrame},
      {"AnswersBackAndForth", AnswersBackAndForth},
      {"FlushSeesFramesOff", FlushSeesFramesOff},
      {"BothSendLargeFirst", BothSendLargeFirst},
      {"DeadlineEndsTheWait", DeadlineEndsTheWait},
      {"TryReceiveSeesWhatHasCome", TryReceiveSeesWhatHasCome},
      {"RefusesFrameOverLimit", RefusesFrameOverLimit},
      {"FullWindowStopsTheSender", FullWindowStopsTheSender},
      {"CountsFramesAndBytes", CountsFramesAndBytes},
      {"SurvivesRandomBursts", SurvivesRandomBursts},
  };
  return cases;
}

}  // namespace thermocline::testing
