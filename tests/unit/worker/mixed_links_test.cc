// Links of one plan, each with a transport and a wire type of its own: a lead with two helpers and
// a next stage, over two kinds of ports.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/units.h"
#include "comm/data_ports.h"
#include "comm/loopback.h"
#include "placement/cost_model.h"
#include "placement/neuron_heat.h"
#include "proto/codec.h"
#include "tests/support/patience.h"
#include "tests/support/stage_chain.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"
#include "tests/support/worker_talk.h"
#include "worker/step_loop.h"

namespace thermocline::worker {
namespace {

using placement::LinkChoice;
using placement::LinkKind;
using testing::kPatience;
using testing::OneEntry;
using testing::TempFile;

constexpr int kLayers = 3, kCut = 2;  // layers of the first stage
constexpr int kNeurons = 128;
constexpr WorkerId kLead{1}, kFirstHelper{2}, kSecondHelper{3}, kNext{4};
constexpr WorkerId kWorkers[] = {kLead, kFirstHelper, kSecondHelper, kNext};

// Bytes of activations that were sent, by sender, receiver and kind of port.
using Route = std::tuple<WorkerId, WorkerId, LinkKind>;
class PayloadCounts {
 public:
  void Add(const Route& route, uint64_t n_bytes) {
    const MutexLock lock(mutex_);
    bytes_[route] += n_bytes;
  }
  std::map<Route, uint64_t> bytes() const {
    const MutexLock lock(mutex_);
    return bytes_;
  }

 private:
  mutable Mutex mutex_;
  std::map<Route, uint64_t> bytes_ GUARDED_BY(mutex_);
};

class CountingLink final : public comm::Link {
 public:
  CountingLink(std::unique_ptr<comm::Link> link, Route route, PayloadCounts* counts)
      : link_(std::move(link)), route_(route), counts_(counts) {}
  WorkerId peer() const override { return link_->peer(); }
  comm::LinkStats stats() const override { return link_->stats(); }
  Status Send(const comm::FrameView& frame, TimePoint deadline) override {
    TC_RETURN_IF_ERROR(link_->Send(frame, deadline));
    counts_->Add(route_, frame.payload.size());
    return OkStatus();
  }
  Status Receive(comm::Frame* frame, TimePoint deadline) override {
    return link_->Receive(frame, deadline);
  }

 private:
  const std::unique_ptr<comm::Link> link_;
  const Route route_;
  PayloadCounts* const counts_;
};

class CountingPort final : public comm::DataPort {
 public:
  CountingPort(std::unique_ptr<comm::DataPort> port, WorkerId self, LinkKind kind,
               PayloadCounts* counts)
      : port_(std::move(port)), self_(self), kind_(kind), counts_(counts) {}
  comm::Transport transport() const override { return port_->transport(); }
  std::string address() const override { return port_->address(); }
  Result<std::unique_ptr<comm::Link>> Open(WorkerId peer, const std::string& address) override {
    TC_ASSIGN_OR_RETURN(auto link, port_->Open(peer, address));
    return std::unique_ptr<comm::Link>(
        std::make_unique<CountingLink>(std::move(link), Route{self_, peer, kind_}, counts_));
  }

 private:
  const std::unique_ptr<comm::DataPort> port_;
  const WorkerId self_;
  const LinkKind kind_;
  PayloadCounts* const counts_;
};

// What the links of the lead say for themselves.
struct Choices {
  LinkChoice first, second, next;
};

// The four workers of one plan, each with a port of either kind.
class Cluster {
 public:
  Cluster(const std::string& model_path, const Choices& choices)
      : path_(model_path), server_(mailboxes_.MakeServer()) {
    plan_.kv.n_pages = 8;
    placement::StagePlan split{.lead = kLead, .layers = {0, kCut, true, false}};
    split.neurons.assign(kCut, {0, 32});
    split.helpers = {{.worker = kFirstHelper, .neurons = {kCut, {32, 80}}},
                     {.worker = kSecondHelper, .neurons = {kCut, {80, kNeurons}}}};
    split.helpers[0].to_lead = choices.first;
    split.helpers[1].to_lead = choices.second;
    split.to_next = choices.next;
    plan_.stages = {split, {.lead = kNext, .layers = {kCut, kLayers, false, true}}};
    for (const WorkerId id : kWorkers) {
      workers_[id].mpi = PortOf(&mpi_hub_, id, LinkKind::kMpi);
      workers_[id].zmq = PortOf(&zmq_hub_, id, LinkKind::kZmq);
    }
    for (const WorkerId id : kWorkers) Start(id);
    for (size_t i = 0; i < std::size(kWorkers); ++i) Await<proto::Ready>();
  }

  // The token that follows a prompt.
  int32_t Next(const std::vector<int32_t>& prompt) {
    const auto n = static_cast<int>(prompt.size());
    EXPECT_TRUE(workers_[kLead].loop->Submit(OneEntry(SeqId{1}, 0, prompt, true, n)));
    const auto result = Await<proto::StepResult>();
    if (result.entries.size() != 1 || !result.entries[0].sampled) return -1;
    return result.entries[0].sampled->token;
  }

  std::map<Route, uint64_t> sent() const { return counts_.bytes(); }
  const placement::Plan& plan() const { return plan_; }

 private:
  struct Worker {
    std::unique_ptr<comm::Mailbox> mailbox;
    std::unique_ptr<kernels::Device> device = kernels::MakeReferenceDevice();
    StepCounters counters;
    std::unique_ptr<comm::DataPort> mpi, zmq;
    std::unique_ptr<StepLoop> loop;
  };

  std::unique_ptr<comm::DataPort> PortOf(comm::LoopbackHub* hub, WorkerId id, LinkKind kind) {
    return std::make_unique<CountingPort>(hub->MakePort(id), id, kind, &counts_);
  }

  Assignment AssignmentOf(WorkerId id) const {
    Assignment assignment;
    assignment.self = id;
    proto::AssignPlan& message = assignment.message;
    message.plan = plan_;
    message.stage = id == kNext ? 1 : 0;
    message.helper = id == kFirstHelper ? 0 : id == kSecondHelper ? 1 : -1;
    testing::SetModel(path_, &message);
    message.lead_address = "loopback:1";
    message.helper_addresses = {"loopback:2", "loopback:3"};
    if (id == kLead) message.next_address = "loopback:4";
    if (id == kNext) message.previous_address = "loopback:1";
    return assignment;
  }

  void Start(WorkerId id) {
    Worker& worker = workers_[id];
    worker.mailbox = std::move(mailboxes_.Connect(comm::PeerId{id.value})).value();
    worker.loop = std::make_unique<StepLoop>(
        StepContext{clock_,
                    *worker.mailbox,
                    {.mpi = worker.mpi.get(), .zmq = worker.zmq.get()},
                    *worker.device,
                    worker.counters},
        AssignmentOf(id), [](const StepEnd& end) { ADD_FAILURE() << end.why; });
  }

  template <typename Kind>
  Kind Await() {
    return testing::AwaitMessage<Kind>(*server_, kPatience);
  }

  const SteadyClock clock_{};
  const std::string path_;
  placement::Plan plan_;
  comm::LoopbackMailboxHub mailboxes_;
  const std::unique_ptr<comm::Mailbox> server_;
  comm::LoopbackHub mpi_hub_, zmq_hub_;
  PayloadCounts counts_;
  std::map<WorkerId, Worker> workers_;
};

class MixedLinksTest : public ::testing::Test {
 protected:
  MixedLinksTest()
      : file_(testing::TinyModel({.arch = "arcee", .n_layer = kLayers, .n_ff = kNeurons})) {}

  const TempFile file_;
  const std::vector<int32_t> prompt_ = {5, 6, 7, 11, 200};
};

TEST_F(MixedLinksTest, TheWayOfAFrameChangesNoToken) {
  Cluster alike(file_.path(), {});
  Cluster mixed(file_.path(),
                {.first = {.link = LinkKind::kMpi}, .next = {.link = LinkKind::kMpi}});
  EXPECT_EQ(mixed.Next(prompt_), alike.Next(prompt_));
  std::map<std::pair<WorkerId, WorkerId>, LinkKind> ways;
  for (const auto& [route, n_bytes] : mixed.sent()) {
    const auto& [from, to, kind] = route;
    ways[{from, to}] = kind;
  }
  using Ways = std::map<std::pair<WorkerId, WorkerId>, LinkKind>;
  EXPECT_EQ(ways, (Ways{{{kLead, kFirstHelper}, LinkKind::kMpi},
                        {{kFirstHelper, kLead}, LinkKind::kMpi},
                        {{kLead, kSecondHelper}, LinkKind::kZmq},
                        {{kSecondHelper, kLead}, LinkKind::kZmq},
                        {{kLead, kNext}, LinkKind::kMpi}}));
}

// Both ends round and read by their own link's type; else a frame would have another size than its
// header says, which ends a stage.
TEST_F(MixedLinksTest, TheCostModelCountsTheBytesThatAreSent) {
  const Choices choices{.first = {.wire = DType::kF16},
                        .second = {LinkKind::kMpi, DType::kF32},
                        .next = {.wire = DType::kBF16}};
  Cluster cluster(file_.path(), choices);
  EXPECT_GE(cluster.Next(prompt_), 0);
  std::map<std::pair<WorkerId, WorkerId>, uint64_t> sent;
  for (const auto& [route, n_bytes] : cluster.sent()) {
    sent[{std::get<0>(route), std::get<1>(route)}] = n_bytes;
  }

  // A link takes a second for a million bytes and nothing else.
  constexpr double kBytesPerS = 1e6;
  placement::ClusterProfile profile;
  for (const WorkerId from : kWorkers) {
    profile.workers.push_back({.id = from,
                               .memory_bytes = kGiB,
                               .read_bytes_per_s = placement::Figure::Measured(1e9),
                               .op_overhead_s = placement::Figure::Measured(0)});
    for (const WorkerId to : kWorkers) {
      if (from == to) continue;
      profile.links.push_back({.from = from,
                               .to = to,
                               .latency_s = placement::Figure::Measured(0),
                               .bytes_per_s = placement::Figure::Measured(kBytesPerS),
                               .message_s = placement::Figure::Measured(0)});
    }
  }
  const auto model = OpenModel(file_.path());
  ASSERT_TRUE(model.ok()) << model.status();
  const auto heats = placement::UniformHeats(model->config, 1);
  const placement::CostModel costs({.config = model->config,
                                    .weights = model->weights,
                                    .heats = heats,
                                    .cluster = profile,
                                    .ffn = model::FfnMode::kDense,
                                    .step = {.n_tokens = static_cast<int64_t>(prompt_.size())},
                                    .wires = placement::PairWires::Of(cluster.plan())});
  const auto bytes = [&](double seconds) {
    return static_cast<uint64_t>(std::llround(seconds * kBytesPerS));
  };
  const auto problem = costs.ProblemOf({kLead, kFirstHelper, kSecondHelper}, {0, kCut});
  for (const auto& [helper, device] : {std::pair(kFirstHelper, problem.devices[1]),
                                       std::pair(kSecondHelper, problem.devices[2])}) {
    EXPECT_EQ((sent[{kLead, helper}]), kCut * bytes(device.send_s)) << helper;
    EXPECT_EQ((sent[{helper, kLead}]), kCut * bytes(device.round_trip_s)) << helper;
  }
  EXPECT_EQ((sent[{kLead, kFirstHelper}]), (sent[{kLead, kSecondHelper}]) / 2);
  EXPECT_EQ((sent[{kLead, kNext}]), bytes(costs.HopSeconds(kLead, kNext)));
  EXPECT_EQ((sent[{kLead, kNext}]), prompt_.size() * 2 * static_cast<size_t>(model->config.n_embd));
}

}  // namespace
}  // namespace thermocline::worker
