#include "coordinator/trace_recorder.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/str.h"
#include "proto/codec.h"

namespace thermocline::coordinator {
namespace {

using nlohmann::json;
using std::chrono::microseconds;

constexpr WorkerId kWorker{4};

TimePoint At(int64_t us) { return {microseconds(us)}; }

// Asked at `sent`, answered by a clock that is `ahead` and read half of `took` later.
proto::ClockEcho Echo(TimePoint sent, Duration ahead, Duration took) {
  return {.sent_ns = sent.since_start.count(),
          .at_ns = (sent.since_start + took / 2 + ahead).count()};
}

class TraceRecorderTest : public ::testing::Test {
 protected:
  TraceRecorderTest() : path_(Str(::testing::TempDir(), "recorder-", getpid(), ".json")) {
    auto created = TraceRecorder::Create(path_, At(0));
    EXPECT_TRUE(created.ok()) << created.status();
    recorder_ = std::move(created).value();
    recorder_->OnWorker(kWorker, "worker 4 on node2");
  }
  ~TraceRecorderTest() override { std::filesystem::remove(path_); }

  // The spans of one process.
  std::vector<json> Spans(int process) {
    recorder_->Flush();
    std::stringstream text;
    text << std::ifstream(path_).rdbuf();
    file_ = json::parse(text.str());
    std::vector<json> spans;
    for (const json& event : file_["traceEvents"]) {
      if (event["ph"] == "X" && event["pid"] == process) spans.push_back(event);
    }
    return spans;
  }

  const std::string path_;
  std::unique_ptr<TraceRecorder> recorder_;
  json file_;
};

TEST(ClockOffset, TakesTheQuickestOfTheLatestTrips) {
  constexpr Duration kAhead = std::chrono::hours(5);
  ClockOffset clock;
  EXPECT_FALSE(clock.known());
  // Slow trips whose answers were late on one way: wrong by half of what they took.
  clock.Add({.sent_ns = 0, .at_ns = kAhead.count()}, At(900));
  EXPECT_EQ(clock.ToOwn(kAhead.count()), At(450));
  clock.Add(Echo(At(1000), kAhead, microseconds(20)), At(1020));
  clock.Add({.sent_ns = 0, .at_ns = kAhead.count()}, At(5000));
  EXPECT_EQ(clock.ToOwn((kAhead + microseconds(77)).count()), At(77));
  // A clock that has drifted is believed once the quick trip is too long ago.
  constexpr Duration kNow = kAhead + microseconds(9);
  for (int i = 0; i < 64; ++i) clock.Add(Echo(At(6000), kNow, microseconds(30)), At(6030));
  EXPECT_EQ(clock.ToOwn(kNow.count()), At(0));
}

TEST(ClockOffset, NoTimesThatAMessageCanHaveOverflow) {
  constexpr int64_t kMost = proto::kMaxClock_ns;
  for (const int64_t sent : {-kMost, int64_t{0}, kMost}) {
    for (const int64_t at : {-kMost, kMost}) {
      ClockOffset clock;
      clock.Add({.sent_ns = sent, .at_ns = at}, At(100));
      EXPECT_EQ(clock.known(), sent <= 0);  // a question from the future was not ours
      if (!clock.known()) continue;
      EXPECT_EQ(clock.ToOwn(at).since_start, (Duration{sent} + At(100).since_start) / 2);
      EXPECT_NE(clock.ToOwn(-at), clock.ToOwn(at));
    }
  }
}

TEST_F(TraceRecorderTest, SpansOfAWorkerAreOnTheCoordinatorsClock) {
  proto::TraceSpans spans{.names = {"norm", "send"}, .tracks = {"device", "links"}};
  spans.spans = {{.name = 1,
                  .track = 1,
                  .begin_ns = 7'005'000,
                  .duration_ns = 2000,
                  .layer = 3,
                  .step = {8},
                  .n_rows = 2,
                  .n_bytes = 64}};
  recorder_->OnSpans(kWorker, spans);
  EXPECT_TRUE(Spans(4).empty());  // nothing is known of its clock
  recorder_->OnClock(kWorker, Echo(At(100), microseconds(7000), microseconds(40)), At(140));
  recorder_->OnSpans(kWorker, spans);
  const std::vector<json> seen = Spans(4);
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0]["name"], "send");
  EXPECT_EQ(seen[0]["tid"], 1);
  EXPECT_EQ(seen[0]["ts"], 5.0);
  EXPECT_EQ(seen[0]["args"], json::parse(R"({"layer":3,"step":8,"rows":2,"bytes":64})"));
  int n_tracks = 0;
  for (const json& event : file_["traceEvents"]) {
    n_tracks += event["name"] == "thread_name" && event["pid"] == 4;
  }
  EXPECT_EQ(n_tracks, 2);  // named once each
}

TEST_F(TraceRecorderTest, StepsThatOverlapLieSideBySide) {
  proto::StepBatch step;
  step.entries = {{.seq = {1}, .tokens = {1, 2, 3}}};
  for (const uint64_t id : {1, 2, 3}) {
    step.step = {id};
    recorder_->OnStepSent(step, At(static_cast<int64_t>(10 * id)));
    if (id == 2) recorder_->OnStepAnswered({1}, At(25));
  }
  recorder_->OnStepAnswered({2}, At(40));
  recorder_->OnStepAnswered({3}, At(50));
  recorder_->OnStepAnswered({9}, At(60));  // unknown
  const std::vector<json> seen = Spans(0);
  ASSERT_EQ(seen.size(), 3u);
  EXPECT_EQ(seen[0]["tid"], 0);
  EXPECT_EQ(seen[1]["tid"], 1);
  EXPECT_EQ(seen[2]["tid"], 0);
  EXPECT_EQ(seen[2]["ts"], 30.0);
  EXPECT_EQ(seen[2]["dur"], 20.0);
  EXPECT_EQ(seen[2]["args"]["rows"], 3);
}

TEST_F(TraceRecorderTest, WhatWorkersLostIsCounted) {
  recorder_->OnWorker({5}, "worker 5 on node2");
  recorder_->OnSpans(kWorker, {.n_dropped = 3});
  recorder_->OnSpans({5}, {.n_dropped = 4});
  recorder_->OnSpans(kWorker, {.n_dropped = 10});
  Spans(0);
  EXPECT_EQ(file_["otherData"]["events_left_out"], 14);
}

}  // namespace
}  // namespace thermocline::coordinator
