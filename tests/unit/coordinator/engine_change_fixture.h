// An engine that serves, and whose plan changes.
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "tests/unit/coordinator/engine_fixture.h"

namespace thermocline::coordinator {

class EngineChangeTest : public EngineTest {
 protected:
  explicit EngineChangeTest(const testing::TinyModelParts& model = FourLayers())
      : EngineTest(model) {}
  void Serve() {
    {
      const MutexLock lock(mutex_);
      beats_ = true;
    }
    StartServing();
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
  // The clock goes on until `done`, and waits for the workers' heartbeats on a busy machine.
  bool InTime(const std::function<bool()>& done) {
    return Eventually([&] {
      const std::vector<WorkerStatus> workers = engine_->status().workers;
      const bool beat = std::all_of(workers.begin(), workers.end(),
                                    [](const auto& worker) { return worker.heartbeat_age_s < 2; });
      if (beat) clock_.Advance(std::chrono::milliseconds(20));
      return done();
    });
  }
  bool IsWorker(uint64_t id) {
    for (const WorkerStatus& worker : engine_->status().workers) {
      if (worker.id == WorkerId{id}) return true;
    }
    return false;
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
