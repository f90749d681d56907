// What a step loop does about a device that hangs: on the CUDA backend over the emulator.
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <memory>
#include <utility>

#include "comm/data_ports.h"
#include "comm/loopback.h"
#include "tests/support/emulated_gpu.h"
#include "tests/support/patience.h"
#include "tests/support/stage_chain.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"
#include "tests/support/worker_talk.h"
#include "worker/step_loop.h"

namespace thermocline::worker {
namespace {

using kernels::cuda::Fate;
using testing::kPatience;

constexpr WorkerId kLead{1}, kHelper{2};
constexpr int kLayers = 3, kNeurons = 128;

// As fast as it goes, and faster where somebody makes it jump. Thread-safe.
class JumpingClock final : public Clock {
 public:
  TimePoint Now() const override { return steady_.Now() + Duration(ahead_.load()); }
  void Jump(Duration d) { ahead_ += d.count(); }

 private:
  const SteadyClock steady_{};
  std::atomic<Duration::rep> ahead_{0};
};

proto::AssignPlan SharedWithAHelper(const std::string& model_path) {
  proto::AssignPlan message;
  message.stage = 0;
  testing::SetModel(model_path, &message);
  message.plan.kv.n_pages = 8;
  placement::StagePlan stage{.lead = kLead, .layers = {0, kLayers, true, true}};
  stage.neurons.assign(kLayers, {0, kNeurons / 2});
  stage.helpers = {{.worker = kHelper, .neurons = {kLayers, {kNeurons / 2, kNeurons}}}};
  message.plan.stages = {stage};
  return message;
}

// A lead that waits for its helper, which waits for x: looks at marks alone would never end.
TEST(StepLoopOnADevice, ThatHangsBeforeXIsOutIsFoundOut) {
  const testing::TempFile file(
      testing::TinyModel({.arch = "arcee", .n_layer = kLayers, .n_ff = kNeurons}));
  comm::LoopbackMailboxHub mailboxes;
  const auto server = mailboxes.MakeServer();
  const auto mailbox = std::move(mailboxes.Connect(comm::PeerId{kLead.value})).value();
  comm::LoopbackHub hub;
  const auto port = hub.MakePort(kLead), helper_port = hub.MakePort(kHelper);
  std::atomic<bool> hangs{false};
  const auto device = testing::EmulatedGpuOf(
      {.fate = [&](uint64_t) { return hangs ? Fate::kHangs : Fate::kIsDone; },
       .patience = Duration{0}});
  JumpingClock clock;
  StepCounters counters;
  std::promise<StepEnd> ended;
  Assignment assignment;
  assignment.self = kLead;
  assignment.message = SharedWithAHelper(file.path());
  assignment.message.helper_addresses = {helper_port->address()};
  StepLoop loop({.clock = clock,
                 .mailbox = *mailbox,
                 .ports = {.zmq = port.get()},
                 .device = *device,
                 .counters = counters,
                 .cpus = {}},
                std::move(assignment), [&](StepEnd end) { ended.set_value(std::move(end)); });
  (void)testing::AwaitMessage<proto::Ready>(*server, kPatience);
  hangs = true;
  ASSERT_TRUE(loop.Submit(testing::OneEntry(SeqId{1}, 0, {5, 6, 7}, true, 3)));
  auto end = ended.get_future();
  const TimePoint until = SteadyClock().Now() + kPatience;
  while (end.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) {
    ASSERT_LT(SteadyClock().Now(), until) << "the loop goes on";
    clock.Jump(std::chrono::seconds(1));
  }
  const StepEnd told = end.get();
  EXPECT_EQ(told.why.code(), StatusCode::kUnavailable) << told.why;
  EXPECT_NE(told.why.message().find("cuda:0 emulated: the GPU does not answer"), std::string::npos)
      << told.why;
  EXPECT_FALSE(told.lost_peer.has_value()) << "the helper is not what is lost";
}

}  // namespace
}  // namespace thermocline::worker
