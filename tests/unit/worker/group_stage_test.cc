// A stage whose members on GPUs add their sums as a group: it computes what the same members
// compute over links. GPUs are threads and memory that the host cannot touch, and NCCL is a library
// that stands for it; the workers' own code does the rest.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "comm/data_ports.h"
#include "comm/loopback.h"
#include "model/fingerprint.h"
#include "proto/codec.h"
#include "tests/support/apart_device.h"
#include "tests/support/fake_gpu/fake_gpu.h"
#include "tests/support/stage_chain.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"
#include "worker/step_loop.h"

namespace thermocline::worker {
namespace {

using model::FfnMode;
using model::NeuronRange;
using ::testing::HasSubstr;
using testing::FakeGpuFaults;
using testing::GgufDialect;
using testing::TempFile;
using testing::TinyModelSpec;

constexpr Duration kPatience = std::chrono::seconds(20);
// A stop must be this fast; what it interrupts would take minutes.
constexpr Duration kSoon = std::chrono::seconds(5);
constexpr int kLayers = 3;
constexpr int kNeurons = 128;
constexpr int kRows = 16;

void SetFaults(const FakeGpuFaults& faults) { testing::tc_fake_gpu_set_faults(&faults); }

void TellFake(const std::byte* seen, std::byte* memory, uint64_t n_bytes) {
  if (memory == nullptr) return testing::tc_fake_gpu_forget_memory(seen);
  testing::tc_fake_gpu_know_memory(seen, memory, n_bytes);
}

// Who computes: the lead first, then its helpers in the plan's order.
struct Layout {
  const char* name = "";
  std::vector<bool> on_gpu;
  // members[m][layer]; empty: even parts everywhere.
  std::vector<std::vector<NeuronRange>> neurons;
  int micro_batches = 1;
};

enum class Sums : uint8_t { kByLinks, kByGroup };

// One process of the stage.
struct Worker {
  std::unique_ptr<comm::Mailbox> mailbox;
  GpuWays ways;
  comm::Gpu::Stream stream;
  std::unique_ptr<kernels::Device> device;
  StepCounters counters;
  std::unique_ptr<comm::DataPort> port;
  std::unique_ptr<StepLoop> loop;
};

TinyModelSpec Spec(const std::string& arch) {
  TinyModelSpec spec{.arch = arch, .n_layer = kLayers, .n_ff = kNeurons};
  if (arch == "llama") spec.dialect = GgufDialect::kPowerInfer;
  return spec;
}

// All processes of one stage, over the model of `file`.
class Cluster {
 public:
  Cluster(const TempFile& file, Layout layout, model::FfnModes modes)
      : file_(file),
        layout_(std::move(layout)),
        modes_(modes),
        server_(mailboxes_.MakeServer()),
        workers_(layout_.on_gpu.size()) {
    if (layout_.neurons.empty()) ShareEvenly();
    for (size_t m = 0; m < workers_.size(); ++m) {
      Worker& worker = workers_[m];
      worker.mailbox = std::move(mailboxes_.Connect(comm::PeerId{m + 1})).value();
      worker.port = hub_.MakePort(IdOf(m));
      if (!layout_.on_gpu[m]) {
        worker.device = std::move(kernels::MakeCpuDevice({1, {}})).value();
        continue;
      }
      worker.ways = OpenGpuWays(static_cast<int>(m),
                                comm::NcclLibrary::Load({.library = TC_FAKE_GPU}), TC_FAKE_GPU);
      worker.stream = std::move(worker.ways.gpu->MakeStream()).value();
      worker.device = testing::MakeApartDevice({.memory_bytes = uint64_t{64} << 20,
                                                .stream = worker.stream.get(),
                                                .on_memory = TellFake});
    }
  }

  void Start(Sums sums, uint64_t epoch = 1) {
    const std::string id = workers_.front().ways.MakeId();
    for (size_t m = 0; m < workers_.size(); ++m) StartOne(m, MessageOf(sums, epoch, id));
    for (size_t m = 0; m < workers_.size(); ++m) Await<proto::Ready>();
  }
  void StartOne(size_t m, proto::AssignPlan message, HeldModel held = {}) {
    Worker& worker = workers_[m];
    Assignment assignment;
    assignment.self = IdOf(m);
    assignment.message = std::move(message);
    assignment.message.helper = static_cast<int>(m) - 1;
    worker.loop = std::make_unique<StepLoop>(
        StepContext{.clock = clock_,
                    .mailbox = *worker.mailbox,
                    .data_port = worker.port.get(),
                    .device = *worker.device,
                    .counters = worker.counters,
                    .cpus = {},
                    .gpu_ways = &worker.ways},
        std::move(assignment), [this](const Status& status) {
          ++n_failures_;
          ADD_FAILURE() << status;
        },
        std::move(held));
  }
  proto::AssignPlan MessageOf(Sums sums, uint64_t epoch, const std::string& id) const;

  void Submit(uint64_t step, std::vector<proto::StepEntry> entries) {
    proto::StepBatch batch{.epoch = epoch_, .step = {step}, .entries = std::move(entries)};
    ASSERT_TRUE(workers_.front().loop->Submit(std::move(batch)));
  }
  template <typename Kind>
  Kind Await() {
    while (true) {
      auto received = server_->Receive(clock_.Now() + kPatience);
      if (!received.ok() || !*received) {
        ADD_FAILURE() << "nothing came";
        return {};
      }
      auto message = proto::Decode((*received)->frame.header);
      if (message.ok() && std::holds_alternative<Kind>(*message)) return std::get<Kind>(*message);
    }
  }
  // Ends one after the other, as a coordinator has them do.
  void End() {
    for (Worker& worker : workers_) worker.loop.reset();
  }
  ~Cluster() { End(); }

  Worker& worker(size_t m) { return workers_[m]; }
  int n_failures() const { return n_failures_; }
  Duration TimeOf(const std::function<void()>& work) const {
    const TimePoint begin = clock_.Now();
    work();
    return clock_.Now() - begin;
  }

 private:
  static WorkerId IdOf(size_t m) { return {m + 1}; }
  void ShareEvenly() {
    const auto n = static_cast<int64_t>(layout_.on_gpu.size());
    for (int64_t m = 0; m < n; ++m) {
      layout_.neurons.emplace_back(kLayers,
                                   NeuronRange{kNeurons * m / n, kNeurons * (m + 1) / n});
    }
  }

  const SteadyClock clock_{};
  const TempFile& file_;
  Layout layout_;
  const model::FfnModes modes_;
  const Epoch epoch_{1};
  comm::LoopbackMailboxHub mailboxes_;
  const std::unique_ptr<comm::Mailbox> server_;
  comm::LoopbackHub hub_;
  std::atomic<int> n_failures_ = 0;
  std::vector<Worker> workers_;
};

proto::AssignPlan Cluster::MessageOf(Sums sums, uint64_t epoch, const std::string& id) const {
  proto::AssignPlan message;
  message.stage = 0;
  message.model_path = file_.path();
  const auto reader = model::OpenMappedFile(file_.path());
  const auto gguf = model::GgufFile::Parse(**reader);
  message.model_fingerprint = *model::FingerprintOf(**reader, *gguf);
  message.model_bytes = (*reader)->size_bytes();
  message.header_bytes = gguf->header_bytes();
  message.ffn = modes_;
  message.max_step_tokens = 2 * kRows;
  message.plan.epoch = {epoch};
  message.plan.kv.n_pages = 16;
  message.plan.micro_batches = layout_.micro_batches;
  placement::StagePlan stage{.lead = IdOf(0), .layers = {0, kLayers, true, true}};
  stage.neurons = layout_.neurons.front();
  for (size_t m = 1; m < layout_.on_gpu.size(); ++m) {
    stage.helpers.push_back({.worker = IdOf(m), .neurons = layout_.neurons[m]});
    message.helper_addresses.push_back(workers_[m].port->address());
    const bool in_group = sums == Sums::kByGroup && layout_.on_gpu[0] && layout_.on_gpu[m];
    if (in_group) message.nccl_helpers.push_back(static_cast<int>(m) - 1);
  }
  if (!message.nccl_helpers.empty()) message.nccl_id = id;
  message.plan.stages = {stage};
  message.lead_address = workers_[0].port->address();
  return message;
}

proto::StepEntry Entry(SeqId seq, int64_t position, std::vector<int32_t> tokens) {
  proto::StepEntry entry{.seq = seq, .first_position = position, .tokens = std::move(tokens)};
  entry.sample = true;
  if (position == 0) {
    entry.start.emplace();
    entry.start->params.n_prompt_logprobs = 3;
    entry.start->params.n_logprobs = 20;
    entry.start->params.temperature = 0;
    entry.start->n_prompt = 100;
  }
  return entry;
}

// What is said of the logits of every row, by step.
using Results = std::map<uint64_t, std::vector<proto::StepResultEntry>>;

// Chunks of prompts, several sequences at once, single tokens; submitted all at once.
Results Serve(Cluster* cluster) {
  cluster->Submit(1, {Entry({1}, 0, {5, 17, 42, 260, 8, 99, 3})});
  cluster->Submit(2, {Entry({2}, 0, {61, 7}), Entry({3}, 0, {200, 11, 12})});
  cluster->Submit(3, {Entry({1}, 7, {44, 45, 46, 47}), Entry({2}, 2, {9})});
  cluster->Submit(4, {Entry({3}, 3, {21})});
  cluster->Submit(5, {Entry({1}, 11, {30}), Entry({2}, 3, {31}), Entry({3}, 4, {32})});
  Results results;
  while (results.size() < 5) {
    auto result = cluster->Await<proto::StepResult>();
    if (result.entries.empty()) break;
    results[result.step.value] = std::move(result.entries);
  }
  return results;
}

Results Served(const TempFile& file, const Layout& layout, model::FfnModes modes, Sums sums) {
  Cluster cluster(file, layout, modes);
  cluster.Start(sums);
  Results results = Serve(&cluster);
  cluster.End();
  EXPECT_EQ(cluster.n_failures(), 0);
  EXPECT_EQ(results.size(), 5u);
  return results;
}

std::vector<float> LogProbs(const Results& results) {
  std::vector<float> all;
  for (const auto& [step, entries] : results) {
    for (const proto::StepResultEntry& entry : entries) {
      for (const model::SampledToken& token : entry.prompt_scores) all.push_back(token.logprob);
      if (entry.sampled) all.push_back(entry.sampled->logprob);
    }
  }
  return all;
}

class GroupStage : public ::testing::Test {
 protected:
  GroupStage() { SetFaults({}); }
  ~GroupStage() override {
    SetFaults({});
    EXPECT_EQ(testing::tc_fake_gpu_live_comms(), 0) << "a communicator was forgotten";
    EXPECT_EQ(testing::tc_fake_gpu_live_objects(), 0);
  }
};

const Layout kTwoGpus{.name = "two GPUs", .on_gpu = {true, true}};
const Layout kTwoGpusAndCpu{.name = "two GPUs, a CPU", .on_gpu = {true, true, false}};
const Layout kThreeGpusAndCpu{.name = "three GPUs, a CPU", .on_gpu = {true, true, true, false}};

const std::pair<const char*, FfnMode> kModes[] = {
    {"arcee", FfnMode::kDense}, {"arcee", FfnMode::kExact}, {"llama", FfnMode::kPredicted}};

// Where the order of additions is the same, the bits are.
TEST_F(GroupStage, TwoGpusGiveTheBitsOfLinks) {
  for (const auto& [arch, mode] : kModes) {
    const TempFile file(testing::TinyModel(Spec(arch)));
    for (Layout layout : {kTwoGpus, kTwoGpusAndCpu}) {
      for (const int micro_batches : {1, 2}) {
        layout.micro_batches = micro_batches;
        EXPECT_EQ(Served(file, layout, mode, Sums::kByGroup),
                  Served(file, layout, mode, Sums::kByLinks))
            << layout.name << " " << model::FfnModeName(mode) << " batches " << micro_batches;
      }
    }
  }
}

// A ring adds in an order of its own, the same every time.
TEST_F(GroupStage, ThreeGpusDifferByRoundingsAndNotFromRunToRun) {
  for (const auto& [arch, mode] : kModes) {
    const TempFile file(testing::TinyModel(Spec(arch)));
    const Results by_group = Served(file, kThreeGpusAndCpu, mode, Sums::kByGroup);
    EXPECT_EQ(Served(file, kThreeGpusAndCpu, mode, Sums::kByGroup), by_group);
    const std::vector<float> group = LogProbs(by_group);
    const std::vector<float> links = LogProbs(Served(file, kThreeGpusAndCpu, mode, Sums::kByLinks));
    ASSERT_EQ(group.size(), links.size());
    for (size_t i = 0; i < group.size(); ++i) EXPECT_NEAR(group[i], links[i], 1e-4);
  }
}

// Layers in which a member of the group has no neurons go over links.
TEST_F(GroupStage, LayersAreSharedDifferently) {
  const TempFile file(testing::TinyModel(Spec("arcee")));
  Layout layout{.name = "uneven", .on_gpu = {true, true, true}};
  layout.neurons = {{{0, 128}, {0, 30}, {0, 40}}, {{0, 0}, {30, 128}, {40, 70}},
                    {{0, 0}, {0, 0}, {70, 128}}};
  const Results by_group = Served(file, layout, FfnMode::kExact, Sums::kByGroup);
  const Results by_links = Served(file, layout, FfnMode::kExact, Sums::kByLinks);
  const std::vector<float> group = LogProbs(by_group), links = LogProbs(by_links);
  ASSERT_EQ(group.size(), links.size());
  for (size_t i = 0; i < group.size(); ++i) EXPECT_NEAR(group[i], links[i], 1e-4);
}

// Modes that are chosen by time wait for the device between ops, and for no other member.
TEST_F(GroupStage, ModesAreChosenByTimeBesideAGroup) {
  const TempFile file(testing::TinyModel(Spec("arcee")));
  model::FfnModes modes = FfnMode::kDense;
  modes.Add(FfnMode::kExact);
  const std::vector<float> chosen = LogProbs(Served(file, kTwoGpusAndCpu, modes, Sums::kByGroup));
  const std::vector<float> dense =
      LogProbs(Served(file, kTwoGpusAndCpu, FfnMode::kDense, Sums::kByLinks));
  ASSERT_EQ(chosen.size(), dense.size());
  for (size_t i = 0; i < chosen.size(); ++i) EXPECT_NEAR(chosen[i], dense[i], 1e-4);
}

// A member that gives up ends the others' waits. They stay for the coordinator's next plan, which
// another group serves.
TEST_F(GroupStage, AfterALossTheNextPlanHasAnotherGroup) {
  const TempFile file(testing::TinyModel(Spec("arcee")));
  const Results wanted = Served(file, kTwoGpusAndCpu, FfnMode::kExact, Sums::kByGroup);
  Cluster cluster(file, kTwoGpusAndCpu, FfnMode::kExact);
  cluster.Start(Sums::kByGroup);
  const int n_aborted = testing::tc_fake_gpu_aborted_comms();
  SetFaults({.async_error = 6});
  const TimePoint until = SteadyClock().Now() + kPatience;
  while (testing::tc_fake_gpu_aborted_comms() < n_aborted + 2 && SteadyClock().Now() < until) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(testing::tc_fake_gpu_aborted_comms(), n_aborted + 2);
  EXPECT_EQ(cluster.n_failures(), 0) << "a loss is the coordinator's to judge";
  SetFaults({});
  std::vector<HeldModel> held;
  for (size_t m = 0; m < 3; ++m) held.push_back(cluster.worker(m).loop->End());
  const std::string id = cluster.worker(0).ways.MakeId();
  for (size_t m = 0; m < 3; ++m) {
    cluster.StartOne(m, cluster.MessageOf(Sums::kByGroup, 1, id), std::move(held[m]));
  }
  for (size_t m = 0; m < 3; ++m) cluster.Await<proto::Ready>();
  EXPECT_EQ(Serve(&cluster), wanted);
}

// Neither a member that never comes nor work that never ends keeps a worker from stopping.
TEST_F(GroupStage, AStopEndsEveryWaitForTheGroup) {
  const TempFile file(testing::TinyModel(Spec("arcee")));
  {
    Cluster cluster(file, kTwoGpus, FfnMode::kExact);
    const std::string id = cluster.worker(0).ways.MakeId();
    cluster.StartOne(0, cluster.MessageOf(Sums::kByGroup, 1, id));
    cluster.Await<proto::Ready>();  // it waits for the other one
    EXPECT_LT(cluster.TimeOf([&] { cluster.End(); }).count(), kSoon.count());
  }
  Cluster cluster(file, kTwoGpus, FfnMode::kExact);
  cluster.Start(Sums::kByGroup);
  cluster.Submit(1, {Entry({1}, 0, {5, 17})});
  cluster.Await<proto::StepResult>();
  SetFaults({.work_hangs = true});
  cluster.Submit(2, {Entry({1}, 2, {5})});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // it waits for its work
  EXPECT_LT(cluster.TimeOf([&] { cluster.End(); }).count(), kSoon.count());
  EXPECT_EQ(cluster.n_failures(), 0);
}

TEST_F(GroupStage, AGroupForAWorkerWithoutNcclIsRefused) {
  const auto device = testing::MakeApartDevice();
  EXPECT_EQ(CheckWays(nullptr, *device).code(), StatusCode::kUnavailable);
  const GpuWays none = OpenGpuWays(
      0, comm::NcclLibrary::Load({.library = "libthere-is-no-such.so.2"}), TC_FAKE_GPU);
  EXPECT_EQ(none.nccl, nullptr);
  EXPECT_EQ(none.MakeId(), "");
  EXPECT_THAT(CheckWays(&none, *device).message(), HasSubstr("cannot be in one: device=apart"));
}

TEST(CheckGroup, MembersAreHelpersOfTheStageAndHaveAPlaceToMeet) {
  proto::AssignPlan message;
  message.stage = 0;
  message.plan.stages.resize(1);
  message.plan.stages[0].helpers.resize(2);
  EXPECT_TRUE(CheckGroup(message).ok());
  message.nccl_helpers = {1};
  EXPECT_EQ(CheckGroup(message).code(), StatusCode::kDataLoss);
  message.nccl_id = "here";
  EXPECT_TRUE(CheckGroup(message).ok());
  message.nccl_helpers = {0, 2};
  EXPECT_THAT(CheckGroup(message).message(), HasSubstr("last_member=2"));
}

}  // namespace
}  // namespace thermocline::worker
