// A plan that follows the neurons that fire.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/coordinator/engine_change_fixture.h"

namespace thermocline::coordinator {
namespace {

const testing::TinyModelParts& ReluLayers() {
  static const testing::TinyModelParts parts =
      testing::MakeTinyModelParts({.arch = "arcee", .n_layer = 4, .n_ff = 1024});
  return parts;
}

// Workers so slow that sharing a layer pays.
class HotNeuronsTest : public EngineChangeTest {
 protected:
  HotNeuronsTest() : EngineChangeTest(ReluLayers()) {
    options_.policy = placement::SplitPolicy::kOptimal;
    options_.latency_weight = 1;
    options_.plan.ffn = model::FfnMode::kExact;
  }
  void JoinSlowly() {
    StartEngine();
    for (const uint64_t id : {1, 2}) {
      proto::Hello hello = HelloOf(id);
      hello.profile.read_bytes_per_s = placement::Figure::Measured(1e6);
      mailbox_.Post(PeerOf(id), hello);
    }
    ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kReady; }));
  }
  // The upper half of each layer's neurons fires always, the lower never.
  void TellThatTheUpperHalfIsHot() {
    const uint64_t n_stale = engine_->status().stale_frames;
    const auto n_ff = static_cast<size_t>(model_.config.n_ff);
    for (int layer = 0; layer < 4; ++layer) {
      proto::FiringCounts counts{.epoch = {1}, .layer = layer, .n_tokens = 1000};
      counts.counts.assign(n_ff, 0);
      std::fill(counts.counts.begin() + int64_t(n_ff / 2), counts.counts.end(), 1000);
      mailbox_.Post(PeerOf(1), counts);
    }
    // A stranger's word comes after them: the engine has seen all layers before the clock goes on.
    mailbox_.Post({77}, proto::Heartbeat{});
    ASSERT_TRUE(Eventually([&] { return engine_->status().stale_frames > n_stale; }));
  }
};

TEST_F(HotNeuronsTest, ThePlanFollowsTheHotNeurons) {
  {
    const MutexLock lock(mutex_);
    beats_ = true;
  }
  JoinSlowly();
  ASSERT_TRUE(observer_.plan().stages[0].is_split());
  const auto sink = Submit(Request(5, 58));
  TellThatTheUpperHalfIsHot();
  ASSERT_TRUE(InTime([&] { return engine_->status().epoch == 2; }));
  ASSERT_TRUE(Reaches(2));
  const ServiceStatus status = engine_->status();
  EXPECT_EQ(status.plan.why, "other neurons are hot");
  EXPECT_GE(status.plan.change_gain, 0.05);
  EXPECT_EQ(status.plan.predicted_gain, 0);  // of a change over this plan
  EXPECT_LT(status.plan.drift, 0.01);        // from what this plan is for
  ASSERT_TRUE(Eventually([&] { return sink->finish().has_value(); }));
  EXPECT_EQ(sink->tokens(), Expected(Request(5, 58)));
  const MutexLock lock(mutex_);
  const proto::AssignPlan& assigned = assignments_.at(PeerOf(1));
  const auto& tables = tables_.at(PeerOf(1));
  ASSERT_EQ(int(tables.size()), assigned.n_neuron_tables);
  ASSERT_FALSE(tables.empty());
  const auto n_ff = static_cast<size_t>(model_.config.n_ff);
  EXPECT_EQ(tables[0].epoch, Epoch{2});
  ASSERT_EQ(tables[0].neurons.size(), n_ff);
  // Hot ones first, otherwise as they stood.
  EXPECT_EQ(tables[0].neurons[0], int32_t(n_ff / 2));
  EXPECT_EQ(tables[0].neurons[n_ff / 2], 0);
  EXPECT_EQ(tables_.at(PeerOf(2)), tables);
}

TEST_F(HotNeuronsTest, NothingMovesWhenTheSameNeuronsStayHot) {
  {
    const MutexLock lock(mutex_);
    beats_ = true;
  }
  JoinSlowly();
  TellThatTheUpperHalfIsHot();
  ASSERT_TRUE(InTime([&] { return engine_->status().epoch == 2; }));
  ASSERT_TRUE(Reaches(2));
  TellThatTheUpperHalfIsHot();
  // Twelve minutes, more than plans are kept for; heartbeats keep up.
  for (int i = 0; i < 180; ++i) {
    clock_.Advance(seconds(4));
    ASSERT_TRUE(Eventually([&] {
      const ServiceStatus status = engine_->status();
      return status.workers[0].heartbeat_age_s == 0 && status.workers[1].heartbeat_age_s == 0;
    }));
  }
  EXPECT_EQ(engine_->status().epoch, 2u);
  EXPECT_LT(engine_->status().plan.drift, 0.01);
}

TEST_F(HotNeuronsTest, CountsOfAnotherModelAreAnError) {
  options_.replan = ReplanMode::kOff;
  JoinSlowly();
  mailbox_.Post(PeerOf(2), proto::FiringCounts{.layer = 1, .n_tokens = 5, .counts = {1, 2}});
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kFailed; }));
  EXPECT_THAT(
      engine_->status().failure.message(),
      ::testing::HasSubstr("worker 2 on node2: firing counts of another model: layer=1 neurons=2"));
}

}  // namespace
}  // namespace thermocline::coordinator
