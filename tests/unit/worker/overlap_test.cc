// A lead and a helper a slow link apart: while the answers for one batch are on their way, the lead
// computes another, and what comes out is what comes out without.
#include <gtest/gtest.h>

#include <map>
#include <utility>
#include <vector>

#include "comm/data_ports.h"
#include "comm/loopback.h"
#include "proto/codec.h"
#include "tests/support/apart_device.h"
#include "tests/support/stage_chain.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"
#include "tests/support/worker_talk.h"
#include "worker/step_loop.h"

namespace thermocline::worker {
namespace {

using std::chrono::milliseconds;
using testing::OneEntry;
using testing::TempFile;

constexpr Duration kPatience = std::chrono::seconds(20);
// Far more than a layer of the tiny model computes, with a sanitizer too.
constexpr Duration kLatency = milliseconds(10);
constexpr WorkerId kLead{1}, kHelper{2};
constexpr int kLayers = 3;
constexpr int kNeurons = 128;

// Its links are slow.
class SlowPort final : public comm::DataPort {
 public:
  explicit SlowPort(std::unique_ptr<comm::DataPort> port) : port_(std::move(port)) {}
  comm::Transport transport() const override { return port_->transport(); }
  std::string address() const override { return port_->address(); }
  Result<std::unique_ptr<comm::Link>> Open(WorkerId peer, const std::string& address) override {
    TC_ASSIGN_OR_RETURN(auto link, port_->Open(peer, address));
    return comm::ShapeLink(std::move(link), {.latency = kLatency});
  }

 private:
  const std::unique_ptr<comm::DataPort> port_;
};

struct Interval {
  int64_t begin = 0, end = 0;
  bool Holds(const Interval& other) const { return begin <= other.begin && other.end <= end; }
};

// What a tracer has seen of ops with this name, by step and layer.
using Intervals = std::map<std::pair<StepId, int>, std::vector<Interval>>;

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
    std::unique_ptr<Tracer> tracer;
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
    worker->tracer = std::make_unique<Tracer>(clock_);
    Assignment assignment;
    assignment.self = self;
    assignment.message = Message();
    assignment.message.helper = self == kHelper ? 0 : -1;
    worker->loop = std::make_unique<StepLoop>(StepContext{clock_,
                                                          *worker->mailbox,
                                                          {.zmq = worker->port.get()},
                                                          *worker->device,
                                                          worker->counters,
                                                          {},
                                                          worker->tracer.get()},
                                              std::move(assignment),
                                              [](const StepEnd& end) { ADD_FAILURE() << end.why; });
  }

  template <typename Kind>
  Kind Await() {
    return testing::AwaitMessage<Kind>(*server_, kPatience);
  }

  // Ports first: a loop that starts opens its links.
  void StartBoth() {
    for (auto& [self, worker] : {std::pair(kLead, &lead_), std::pair(kHelper, &helper_)}) {
      worker->port = std::make_unique<SlowPort>(hub_.MakePort(self));
    }
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

  static Intervals Seen(std::string_view name, Tracer* tracer, proto::TraceSpans* all) {
    for (auto more = tracer->Take(); !more.spans.empty(); more = tracer->Take()) {
      all->names = more.names;
      all->spans.insert(all->spans.end(), more.spans.begin(), more.spans.end());
    }
    Intervals seen;
    for (const proto::TraceSpan& span : all->spans) {
      if (all->names[span.name] != name) continue;
      seen[{span.step, span.layer}].push_back({span.begin_ns, span.begin_ns + span.duration_ns});
    }
    return seen;
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

TEST_F(OverlapTest, ALeadComputesOneBatchWhileTheAnswersForAnotherAreOnTheirWay) {
  StartBoth();
  ASSERT_TRUE(lead_.loop->Submit(Step(1, {1}, 0, {5, 6, 7})));
  ASSERT_TRUE(lead_.loop->Submit(Step(2, {2}, 0, {8, 9, 10})));
  EXPECT_EQ(Await<proto::StepResult>().step, StepId{1});
  EXPECT_EQ(Await<proto::StepResult>().step, StepId{2});

  proto::TraceSpans all;
  const Intervals waits = Seen("receive", lead_.tracer.get(), &all);
  const Intervals attention = Seen("attention", lead_.tracer.get(), &all);
  int64_t waited = 0;
  for (int layer = 0; layer < kLayers; ++layer) {
    const Interval first = waits.at({{1}, layer}).front();
    const Interval second = waits.at({{2}, layer}).front();
    EXPECT_TRUE(first.Holds(attention.at({{2}, layer}).front())) << "layer " << layer;
    waited += first.end - first.begin + second.end - second.begin;
  }
  // Both batches are through in less than the sum of their waits, let alone of their times.
  const int64_t took = waits.at({{2}, kLayers - 1}).front().end - waits.at({{1}, 0}).front().begin;
  EXPECT_LT(took, waited * 3 / 4);
  // A wait begins a little after what it waits for was sent.
  EXPECT_GE(waited, 2 * kLayers * 2 * kLatency.count() * 9 / 10);
}

void OverlapTest::CheckTogether() {
  StartBoth();
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
