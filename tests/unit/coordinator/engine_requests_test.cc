// Requests: accepted, refused, cancelled, drained.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "proto/codec.h"
#include "tests/unit/coordinator/engine_fixture.h"

namespace thermocline::coordinator {
namespace {

using ::testing::HasSubstr;

TEST_F(EngineTest, GeneratesOverTwoStages) {
  StartServing();
  EXPECT_EQ(engine_->n_ctx(), 64);
  const GenerationRequest request = Request(5, 9);
  const auto sink = Submit(request);
  ASSERT_TRUE(Eventually([&] { return sink->finish().has_value(); }));
  EXPECT_EQ(sink->finish(), FinishReason::kLength);
  EXPECT_EQ(sink->tokens(), Expected(request));
  ASSERT_TRUE(Eventually([&] { return engine_->status().generated_tokens == 9; }));
  const ServiceStatus status = engine_->status();
  EXPECT_EQ(status.prompt_tokens, 5u);
  EXPECT_EQ(status.kv_tokens_total, 256);
  EXPECT_EQ(status.kv_tokens_used, 0);
  EXPECT_EQ(status.last_token_age_s, 0);
  ASSERT_EQ(status.workers.size(), 2u);
  EXPECT_EQ(status.workers[1].host, "node2");
  EXPECT_EQ(status.workers[1].stage, 1);
}

TEST_F(EngineTest, ManyThreadsSubmitAndCancel) {
  StartServing();
  std::vector<std::shared_ptr<RecordingSink>> sinks(24);
  std::vector<std::thread> clients;
  for (int t = 0; t < 4; ++t) {
    clients.emplace_back([&, t] {
      for (int i = 0; i < 6; ++i) {
        SeqId id;
        sinks[t * 6 + i] = Submit(Request(3 + i, 20), &id);
        if (i % 3 == 2) engine_->Cancel(id);
        EXPECT_EQ(engine_->status().state, ServiceState::kReady);
      }
    });
  }
  for (std::thread& client : clients) client.join();
  for (int i = 0; i < 24; ++i) {
    ASSERT_TRUE(Eventually([&] { return sinks[i]->finish().has_value(); })) << i;
    if (i % 3 == 2) continue;  // the cancel may come after the end
    EXPECT_EQ(sinks[i]->finish(), FinishReason::kLength);
    EXPECT_EQ(sinks[i]->tokens(), Expected(Request(3 + i % 6, 20)));
    EXPECT_EQ(sinks[i]->n_after_finish(), 0);
  }
  EXPECT_TRUE(Eventually([&] { return engine_->status().kv_tokens_used == 0; }));
}

TEST_F(EngineTest, CancelFreesTheKv) {
  StartServing();
  SetHolds(true);
  SeqId id;
  const auto sink = Submit(Request(5, 50), &id);
  ASSERT_TRUE(Eventually([&] { return n_held() == 1; }));
  engine_->Cancel(id);
  ASSERT_TRUE(Eventually([&] { return sink->finish() == FinishReason::kCancelled; }));
  SetHolds(false);
  EXPECT_TRUE(Eventually([&] {
    const MutexLock lock(mutex_);
    return pipeline_.n_sequences() == 0;
  }));
}

TEST_F(EngineTest, RefusesRequestsThatDoNotFitOrComeTooEarly) {
  {
    const MutexLock lock(mutex_);
    loads_ = false;
  }
  StartEngine();
  const auto sink = std::make_shared<RecordingSink>();
  EXPECT_THAT(engine_->Submit(Request(1, 1), sink).status().message(),
              HasSubstr("waiting for workers"));
  EXPECT_EQ(engine_->n_ctx(), 0);
  Join();
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kLoading; }));
  EXPECT_EQ(engine_->Submit(Request(1, 1), sink).status().code(), StatusCode::kUnavailable);
  for (const uint64_t id : {1, 2}) mailbox_.Post(PeerOf(id), proto::Ready{.epoch = {1}});
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kReady; }));
  EXPECT_EQ(engine_->Submit(Request(60, 10), sink).status().code(), StatusCode::kInvalidArgument);
  EXPECT_FALSE(sink->finish().has_value());
}

TEST_F(EngineTest, FullQueueIsRefused) {
  options_.max_running = 1;
  options_.max_waiting = 1;
  StartServing();
  SetHolds(true);
  const auto first = Submit(Request(5, 3));
  ASSERT_TRUE(Eventually([&] { return n_held() == 1; }));
  ASSERT_TRUE(Eventually([&] { return engine_->status().n_running == 1; }));
  const auto second = Submit(Request(5, 3));
  EXPECT_EQ(engine_->Submit(Request(5, 3), first).status().code(), StatusCode::kResourceExhausted);
  SetHolds(false);
  EXPECT_TRUE(Eventually([&] { return first->finish() && second->finish(); }));
}

TEST_F(EngineTest, ManySequencesOfOneRequestAreAcceptedWhereTheyCanRun) {
  options_.max_running = 16;
  options_.max_waiting = 4;
  StartServing();
  SetHolds(true);
  const auto submit = [&](int n) {
    std::vector<SequenceSubmission> submissions;
    for (int i = 0; i < n; ++i) {
      submissions.push_back({Request(5, 3), std::make_shared<RecordingSink>()});
    }
    return engine_->SubmitAll(std::move(submissions));
  };
  EXPECT_EQ(submit(21).status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(submit(21).status().message(),
              HasSubstr("too many sequences at once: n=21 limit=20"));
  const auto all = submit(20);
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(all->size(), 20u);
  EXPECT_EQ(submit(1).status().code(), StatusCode::kResourceExhausted);
  SetHolds(false);
  ASSERT_TRUE(Eventually([&] { return engine_->status().generated_tokens == 60; }));
  // None of a request is accepted when one of it cannot be.
  const auto sink = std::make_shared<RecordingSink>();
  std::vector<SequenceSubmission> mixed = {{Request(5, 3), sink}, {Request(60, 10), sink}};
  EXPECT_EQ(engine_->SubmitAll(mixed).status().code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(submit(20).ok());
  ASSERT_TRUE(Eventually([&] { return engine_->status().generated_tokens == 120; }));
  EXPECT_FALSE(sink->finish().has_value());
}

TEST_F(EngineTest, DrainFinishesWhatRunsAndRefusesWhatIsNew) {
  StartServing();
  SetHolds(true);
  const auto sink = Submit(Request(5, 9));
  ASSERT_TRUE(Eventually([&] { return n_held() == 1; }));
  engine_->Drain();
  EXPECT_THAT(engine_->Submit(Request(1, 1), sink).status().message(), HasSubstr("draining"));
  SetHolds(false);
  ASSERT_TRUE(Eventually([&] { return observer_.Heard("stopped"); }));
  EXPECT_EQ(sink->finish(), FinishReason::kLength);
  EXPECT_EQ(sink->tokens(), Expected(Request(5, 9)));
  EXPECT_TRUE(Eventually([&] { return WasToldToShutDown(1); }));
  EXPECT_TRUE(Eventually([&] { return WasToldToShutDown(2); }));
}

TEST_F(EngineTest, DrainEndsAtItsDeadline) {
  {
    const MutexLock lock(mutex_);
    beats_ = true;
  }
  options_.drain_deadline = seconds(2);
  StartServing();
  SetHolds(true);
  const auto sink = Submit(Request(5, 9));
  ASSERT_TRUE(Eventually([&] { return n_held() == 1; }));
  engine_->Drain();
  // The deadline counts from when the engine has seen the drain, so time goes on until then.
  ASSERT_TRUE(InTime([&] { return observer_.Heard("stopped"); }));
  EXPECT_EQ(sink->finish(), FinishReason::kError);
  EXPECT_THAT(sink->error().message(), HasSubstr("deadline"));
}

// Although neither an answer nor the clock comes to its help.
TEST_F(EngineTest, StopEndsSequencesAndWorkers) {
  StartServing();
  SetHolds(true);
  const auto sink = Submit(Request(5, 9));
  ASSERT_TRUE(Eventually([&] { return n_held() == 1; }));
  engine_->Stop();
  EXPECT_EQ(sink->finish(), FinishReason::kError);
  EXPECT_TRUE(Eventually([&] { return WasToldToShutDown(1); }));
  EXPECT_TRUE(Eventually([&] { return WasToldToShutDown(2); }));
  EXPECT_TRUE(observer_.Heard("stopped"));
  EXPECT_EQ(engine_->Submit(Request(1, 1), sink).status().code(), StatusCode::kUnavailable);
}

const testing::TinyModelParts& ManyLayers() {
  static const testing::TinyModelParts parts = testing::MakeTinyModelParts({.n_layer = 20});
  return parts;
}

// Twenty stages of a layer each, led by odd workers and helped by even ones.
class ManyStagesTest : public EngineTest {
 protected:
  ManyStagesTest() : EngineTest(ManyLayers()) {
    const int64_t n_ff = model_.config.n_ff;
    options_.expected.clear();
    std::string stages;
    for (uint64_t i = 0; i < 20; ++i) {
      const uint64_t lead = 2 * i + 1;
      for (const uint64_t id : {lead, lead + 1}) options_.expected.push_back({{id}, "node"});
      stages += Str(i == 0 ? "" : ",", R"({"lead":)", lead, R"(,"layers":[)", i, ",", i + 1,
                    R"(],"helpers":[{"worker":)", lead + 1, R"(,"neurons":[)", n_ff / 2, ",", n_ff,
                    "]}]}");
    }
    options_.plan_json = Str(R"({"micro_batches":4,"stages":[)", stages, "]}");
    options_.plan.n_ctx = 2048;
    options_.plan.n_parallel = 1;
    options_.prefill_chunk = 16;
    pipeline_ = FakePipeline({.n_vocab = kVocab, .page_tokens = 16, .n_pages = 128, .n_ctx = 2048});
  }
};

TEST_F(ManyStagesTest, TheFirstStagesQueueTakesAllStepsUnderWay) {
  StartServing();
  ASSERT_EQ(observer_.plan().batches_under_way(), 80);
  SetHolds(true);
  GenerationRequest request = Request(1, 3);
  request.prompt.assign(2000, 7);  // 125 chunks
  const auto sink = Submit(request);
  const auto n_most = static_cast<size_t>(proto::kMaxStepsInFlight);
  ASSERT_TRUE(Eventually([&] { return n_held() >= n_most; }));
  AnswerHeld();
  ASSERT_TRUE(Eventually([&] { return n_held() > 0 && engine_->status().steps == 125; }));
  EXPECT_LE(n_held(), n_most);
  SetHolds(false);
  ASSERT_TRUE(Eventually([&] { return sink->finish() == FinishReason::kLength; }));
  EXPECT_EQ(sink->tokens(), Expected(request));
}

}  // namespace
}  // namespace thermocline::coordinator
