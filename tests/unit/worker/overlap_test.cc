// A lead and a helper with a link between them: while the answers for one batch are on their way,
// the lead computes another, and what comes out is what comes out without.
#include <gtest/gtest.h>

#include <map>
#include <utility>
#include <vector>

#include "comm/data_ports.h"
#include "comm/loopback.h"
#include "proto/codec.h"
#include "tests/support/apart_device.h"
#include "tests/support/patience.h"
#include "tests/support/stage_chain.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"
#include "tests/support/worker_talk.h"
#include "worker/step_loop.h"

namespace thermocline::worker {
namespace {

using std::chrono::milliseconds;
using testing::kPatience;
using testing::OneEntry;
using testing::TempFile;

// Far more than a layer of the tiny model computes, with a sanitizer too.
constexpr Duration kLatency = milliseconds(10);
constexpr WorkerId kLead{1}, kHelper{2};
constexpr int kLayers = 3;
constexpr int kNeurons = 128;

// Of two frames that come one after the other the first is answered when the second has come: who
// waits for an answer before it asks again waits for ever.
class PairedLink final : public comm::Link {
 public:
  explicit PairedLink(std::unique_ptr<comm::Link> link) : link_(std::move(link)) {}
  WorkerId peer() const override { return link_->peer(); }
  comm::LinkStats stats() const override { return link_->stats(); }
  Status Send(const comm::FrameView& frame, TimePoint deadline) override {
    kept_.push_back(
        {{frame.header.begin(), frame.header.end()}, {frame.payload.begin(), frame.payload.end()}});
    return SendKept(deadline);
  }
  Status Receive(comm::Frame* frame, TimePoint deadline) override {
    TC_RETURN_IF_ERROR(link_->Receive(frame, deadline));
    ++n_received_;
    return SendKept(SteadyClock().Now() + kPatience);
  }

 private:
  Status SendKept(TimePoint deadline) {
    if (n_received_ % 2 != 0) return OkStatus();
    for (const comm::Frame& frame : kept_) {
      TC_RETURN_IF_ERROR(link_->Send({frame.header, frame.payload}, deadline));
    }
    kept_.clear();
    return OkStatus();
  }

  const std::unique_ptr<comm::Link> link_;
  std::vector<comm::Frame> kept_;
  int n_received_ = 0;
};

// Decorates the links of a port.
using Decorate = std::unique_ptr<comm::Link> (*)(std::unique_ptr<comm::Link>);

std::unique_ptr<comm::Link> Plain(std::unique_ptr<comm::Link> link) { return link; }
std::unique_ptr<comm::Link> Slow(std::unique_ptr<comm::Link> link) {
  return comm::ShapeLink(std::move(link), {.latency = kLatency});
}
std::unique_ptr<comm::Link> Paired(std::unique_ptr<comm::Link> link) {
  return std::make_unique<PairedLink>(std::move(link));
}

class DecoratedPort final : public comm::DataPort {
 public:
  DecoratedPort(std::unique_ptr<comm::DataPort> port, Decorate decorate)
      : port_(std::move(port)), decorate_(decorate) {}
  comm::Transport transport() const override { return port_->transport(); }
  std::string address() const override { return port_->address(); }
  Result<std::unique_ptr<comm::Link>> Open(WorkerId peer, const std::string& address) override {
    TC_ASSIGN_OR_RETURN(auto link, port_->Open(peer, address));
    return decorate_(std::move(link));
  }

 private:
  const std::unique_ptr<comm::DataPort> port_;
  const Decorate decorate_;
};

class OverlapTest : public ::testing::Test {
 protected:
  OverlapTest()
      : file_(testing::TinyModel({.arch = "arcee", .n_layer = kLayers, .n_ff = kNeurons})),
        server_(mailboxes_.MakeServer()) {}

  // One process of the two.
  struct Worker {
    std::unique_ptr<comm::Mailbox> mailbox;
    std::unique_ptr<kernels::Device> device = kernels::MakeReferenceDevice();
    StepCounters counters;
    std::unique_ptr<comm::DataPort> port;
    std::unique_ptr<StepLoop> loop;
  };

  proto::AssignPlan Message() const {
    proto::AssignPlan message;
    message.stage = 0;
    testing::SetModel(file_.path(), &message);
    message.plan.kv.n_pages = 8;
    placement::StagePlan stage{.lead = kLead, .layers = {0, kLayers, true, true}};
    stage.neurons.assign(kLayers, {0, kNeurons / 2});
    stage.helpers = {{.worker = kHelper, .neurons = {kLayers, {kNeurons / 2, kNeurons}}}};
    message.plan.stages = {stage};
    message.lead_address = "loopback:1";
    message.helper_addresses = {"loopback:2"};
    return message;
  }

  void Start(WorkerId self, Worker* worker) {
    worker->mailbox = std::move(mailboxes_.Connect(comm::PeerId{self.value})).value();
    Assignment assignment;
    assignment.self = self;
    assignment.message = Message();
    assignment.message.helper = self == kHelper ? 0 : -1;
    worker->loop = std::make_unique<StepLoop>(StepContext{clock_,
                                                          *worker->mailbox,
                                                          {.zmq = worker->port.get()},
                                                          *worker->device,
                                                          worker->counters},
                                              std::move(assignment),
                                              [](const StepEnd& end) { ADD_FAILURE() << end.why; });
  }

  template <typename Kind>
  Kind Await() {
    return testing::AwaitMessage<Kind>(*server_, kPatience);
  }

  // Ports first: a loop that starts opens its links.
  void StartBoth(Decorate of_lead, Decorate of_helper) {
    lead_.port = std::make_unique<DecoratedPort>(hub_.MakePort(kLead), of_lead);
    helper_.port = std::make_unique<DecoratedPort>(hub_.MakePort(kHelper), of_helper);
    Start(kLead, &lead_);
    Start(kHelper, &helper_);
    Await<proto::Ready>();
    Await<proto::Ready>();
  }

  static proto::StepBatch Step(uint64_t step, SeqId seq, int64_t position,
                               std::vector<int32_t> tokens) {
    proto::StepBatch batch = OneEntry(seq, position, std::move(tokens), true, 3);
    batch.step = {step};
    return batch;
  }

  // Batches one after the other, then at once.
  void CheckTogether();

  const SteadyClock clock_{};
  const TempFile file_;
  comm::LoopbackMailboxHub mailboxes_;
  const std::unique_ptr<comm::Mailbox> server_;
  comm::LoopbackHub hub_;
  Worker lead_, helper_;
};

// In every layer, or nothing would come.
TEST_F(OverlapTest, ALeadComputesOneBatchWhileTheAnswersForAnotherAreOnTheirWay) {
  StartBoth(Plain, Paired);
  ASSERT_TRUE(lead_.loop->Submit(Step(1, {1}, 0, {5, 6, 7})));
  ASSERT_TRUE(lead_.loop->Submit(Step(2, {2}, 0, {8, 9, 10})));
  EXPECT_EQ(Await<proto::StepResult>().step, StepId{1});
  EXPECT_EQ(Await<proto::StepResult>().step, StepId{2});
}

void OverlapTest::CheckTogether() {
  StartBoth(Slow, Slow);
  // Chunks of one prompt, another sequence between them, then a release of what is under way.
  std::vector<proto::StepBatch> steps = {Step(1, {1}, 0, {5, 6, 7, 11}),
                                         Step(2, {2}, 0, {8, 9, 10}), Step(3, {1}, 4, {12, 13}),
                                         Step(4, {3}, 0, {20, 21}), Step(5, {1}, 0, {30, 31})};
  steps[3].released = {{2}};
  steps[4].released = {{1}};
  std::map<StepId, int32_t> alone, together;
  const auto note = [&](std::map<StepId, int32_t>* tokens) {
    const auto result = Await<proto::StepResult>();
    ASSERT_EQ(result.entries.size(), 1u);
    ASSERT_TRUE(result.entries[0].sampled.has_value());
    (*tokens)[result.step] = result.entries[0].sampled->token;
  };
  for (const proto::StepBatch& step : steps) {
    ASSERT_TRUE(lead_.loop->Submit(step));
    note(&alone);
  }
  proto::StepBatch clear;
  clear.step = {6};
  clear.released = {{1}, {3}};
  ASSERT_TRUE(lead_.loop->Submit(clear));
  for (const proto::StepBatch& step : steps) ASSERT_TRUE(lead_.loop->Submit(step));
  while (together.size() < steps.size()) {
    // The bare release is answered too.
    const auto result = Await<proto::StepResult>();
    if (result.entries.empty()) continue;
    together[result.step] = result.entries[0].sampled->token;
  }
  EXPECT_EQ(together, alone);
}

TEST_F(OverlapTest, BatchesTogetherGiveTheTokensOfBatchesAlone) { CheckTogether(); }

TEST_F(OverlapTest, SoTheyDoWhereTheLeadsDeviceHasMemoryOfItsOwn) {
  lead_.device = testing::MakeApartDevice({.is_reference = true});
  CheckTogether();
}

TEST_F(OverlapTest, SoTheyDoWhereTheHelpersDeviceHasMemoryOfItsOwn) {
  helper_.device = testing::MakeApartDevice({.is_reference = true});
  CheckTogether();
}

}  // namespace
}  // namespace thermocline::worker
