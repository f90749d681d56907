// An engine that serves, and whose plan changes.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/unit/coordinator/engine_fixture.h"

namespace thermocline::coordinator {

class EngineChangeTest : public EngineTest {
 protected:
  explicit EngineChangeTest(const testing::TinyModelParts& model = FourLayers())
      : EngineTest(model) {
    const MutexLock lock(mutex_);
    round_trip_s_ = 4e-5;  // so near that one more worker is worth it
  }
  void Serve() {
    {
      const MutexLock lock(mutex_);
      beats_ = true;
    }
    StartServing();
  }
  // Two streams whose first step is not answered.
  struct HeldStreams {
    SeqId first_id;
    std::shared_ptr<RecordingSink> first, second;
  };
  HeldStreams HoldTwo() {
    SetHolds(true);
    HeldStreams streams;
    streams.first = Submit(Request(5, 20), &streams.first_id);
    streams.second = Submit(Request(7, 20));
    EXPECT_TRUE(Eventually([&] { return n_held() >= 1; }));
    return streams;
  }
  bool Reaches(uint64_t epoch) {
    return Eventually([&] {
      const ServiceStatus status = engine_->status();
      return status.epoch == epoch && !status.plan.is_changing;
    });
  }
  bool HearsAndGoesOn(const std::string& news) {
    return Eventually([&] { return observer_.Heard(news) && !engine_->status().plan.is_changing; });
  }
  bool IsWorker(uint64_t id) {
    for (const WorkerStatus& worker : engine_->status().workers) {
      if (worker.id == WorkerId{id}) return true;
    }
    return false;
  }
  // As soon as the service is free to: who has joined may be planned with just then.
  bool Asked(const std::string& plan) {
    return Eventually([&] { return engine_->Replan(plan).ok(); });
  }
  proto::Hello Stranger(const std::string& host) const {
    proto::Hello hello = HelloOf(9);
    hello.wanted_id.reset();
    hello.host = host;
    return hello;
  }
  proto::AssignPlan AssignmentOf(comm::PeerId peer) {
    const MutexLock lock(mutex_);
    return assignments_[peer];
  }
};

}  // namespace thermocline::coordinator
