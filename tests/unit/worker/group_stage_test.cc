// A stage whose members on GPUs add their sums as a group: it computes what the same members
// compute over links, and what one computes alone. GPUs are threads and memory that the host cannot
// touch, and NCCL is a library that stands for it; the workers' own code does the rest.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <utility>
#include <vector>

#include "tests/support/apart_device.h"
#include "tests/support/fake_gpu/fake_gpu.h"
#include "tests/support/fake_gpu/fake_member.h"
#include "tests/support/group_cluster.h"
#include "tests/support/patience.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"

namespace thermocline::worker {
namespace {

using model::FfnMode;
using testing::FakeMember;
using testing::GgufDialect;
using testing::GroupCluster;
using testing::GroupEntry;
using testing::GroupLayout;
using testing::GroupResults;
using ::testing::HasSubstr;
using testing::kPatience;
using testing::MemberDevice;
using testing::SetFaults;
using testing::Sums;
using testing::TempFile;
using testing::TinyModelSpec;

// A stop is faster on any machine; what it interrupts would take a minute, or half an hour.
constexpr Duration kSoon = std::chrono::seconds(50);

TinyModelSpec Spec(const std::string& arch) {
  TinyModelSpec spec{
      .arch = arch, .n_layer = testing::kGroupLayers, .n_ff = testing::kGroupNeurons};
  if (arch == "llama") spec.dialect = GgufDialect::kPowerInfer;
  return spec;
}

GroupResults Served(const TempFile& file, const GroupLayout& layout, model::FfnModes modes,
                    Sums sums) {
  GroupCluster cluster(file, layout, modes, FakeMember);
  return ServedBy(&cluster, sums);
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

const GroupLayout kTwoGpus{.name = "two GPUs", .on_gpu = {true, true}};
const GroupLayout kTwoGpusAndCpu{.name = "two GPUs, a CPU", .on_gpu = {true, true, false}};
const GroupLayout kThreeGpusAndCpu{.name = "three GPUs, a CPU",
                                   .on_gpu = {true, true, true, false}};

// Of four KV heads: each member has some; only the lead and the last one; only the lead and the
// first helper, which is on a GPU.
std::vector<std::vector<model::HeadRange>> HeadCuts(size_t n_members) {
  std::vector<std::vector<model::HeadRange>> cuts(3);
  for (size_t m = 0; m < n_members; ++m) {
    const int at = static_cast<int>(m);
    cuts[0].push_back({at, m + 1 == n_members ? 4 : at + 1});
    cuts[1].push_back({});
    cuts[2].push_back({});
  }
  cuts[1].front() = {1, 4};
  cuts[1].back() = {0, 1};
  cuts[2][0] = {0, 2};
  cuts[2][1] = {2, 4};
  return cuts;
}

// What members send to their lead by the group: where all of them have heads, one y for each step
// and layer, and a word before the first.
int SendsByGroup(const GroupLayout& layout, Sums sums) {
  int n_helpers = 0;
  for (size_t m = 1; m < layout.on_gpu.size(); ++m) {
    if (!layout.on_gpu[m]) continue;
    if (layout.heads[m].empty()) return 0;
    ++n_helpers;
  }
  return sums == Sums::kByGroup ? n_helpers * (testing::kGroupSteps * testing::kGroupLayers + 1)
                                : 0;
}

const std::pair<const char*, FfnMode> kModes[] = {
    {"arcee", FfnMode::kDense}, {"arcee", FfnMode::kExact}, {"llama", FfnMode::kPredicted}};

TEST_F(GroupStage, TwoGpusGiveTheBitsOfLinks) {
  for (const auto& [arch, mode] : kModes) {
    const TempFile file(testing::TinyModel(Spec(arch)));
    for (GroupLayout layout : {kTwoGpus, kTwoGpusAndCpu}) {
      const GroupResults by_links = Served(file, layout, mode, Sums::kByLinks);
      for (const int micro_batches : {1, 2}) {
        layout.micro_batches = micro_batches;
        EXPECT_EQ(Served(file, layout, mode, Sums::kByGroup), by_links)
            << layout.name << " " << model::FfnModeName(mode) << " batches " << micro_batches;
      }
    }
  }
}

// A ring adds in an order of its own, which is no other sum.
TEST_F(GroupStage, ThreeGpusGiveTheBitsOfLinks) {
  for (const auto& [arch, mode] : kModes) {
    const TempFile file(testing::TinyModel(Spec(arch)));
    EXPECT_EQ(Served(file, kThreeGpusAndCpu, mode, Sums::kByGroup),
              Served(file, kThreeGpusAndCpu, mode, Sums::kByLinks));
  }
}

TEST_F(GroupStage, GivesTheBitsOfOneWorker) {
  const GroupLayout alone{.name = "alone", .on_gpu = {true}};
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kQ8_0, DType::kQ4_0}) {
    TinyModelSpec spec = Spec("arcee");
    spec.dtype = dtype;
    const TempFile file(testing::TinyModel(spec));
    const GroupResults wanted = Served(file, alone, FfnMode::kExact, Sums::kByLinks);
    for (const GroupLayout& layout : {kTwoGpus, kThreeGpusAndCpu}) {
      for (const Sums sums : {Sums::kByGroup, Sums::kByLinks}) {
        EXPECT_EQ(Served(file, layout, FfnMode::kExact, sums), wanted)
            << layout.name << " " << DTypeName(dtype);
      }
    }
  }
}

// Layers in which a member of the group has no neurons go over links.
TEST_F(GroupStage, LayersAreSharedDifferently) {
  const TempFile file(testing::TinyModel(Spec("arcee")));
  GroupLayout layout{.name = "uneven", .on_gpu = {true, true, true}};
  layout.neurons = {
      {{0, 320}, {0, 64}, {0, 128}}, {{0, 0}, {64, 320}, {128, 192}}, {{0, 0}, {0, 0}, {192, 320}}};
  EXPECT_EQ(Served(file, layout, FfnMode::kExact, Sums::kByGroup),
            Served(file, layout, FfnMode::kExact, Sums::kByLinks));
}

// Heads of the group come by it, those of others over links; whoever has them, bits are the same.
TEST_F(GroupStage, HeadsAreSharedToo) {
  for (const auto& [arch, mode] : kModes) {
    TinyModelSpec spec = Spec(arch);
    spec.n_embd = 128, spec.n_head = 8, spec.n_head_kv = 4;
    const TempFile file(testing::TinyModel(spec));
    const GroupResults wanted = Served(file, kTwoGpus, mode, Sums::kByLinks);
    for (GroupLayout layout : {kTwoGpus, kTwoGpusAndCpu, kThreeGpusAndCpu}) {
      for (const std::vector<model::HeadRange>& heads : HeadCuts(layout.on_gpu.size())) {
        layout.heads = heads;
        for (const Sums sums : {Sums::kByLinks, Sums::kByGroup}) {
          for (const int micro_batches : {1, 2}) {
            layout.micro_batches = micro_batches;
            const int n_sent = testing::tc_fake_gpu_sends();
            EXPECT_EQ(Served(file, layout, mode, sums), wanted)
                << layout.name << " " << model::FfnModeName(mode) << " batches " << micro_batches;
            EXPECT_EQ(testing::tc_fake_gpu_sends() - n_sent, SendsByGroup(layout, sums))
                << layout.name;
          }
        }
      }
    }
  }
}

// Modes that are chosen by time wait for the device between ops, and for no other member.
TEST_F(GroupStage, ModesAreChosenByTimeBesideAGroup) {
  const TempFile file(testing::TinyModel(Spec("arcee")));
  model::FfnModes modes = FfnMode::kDense;
  modes.Add(FfnMode::kExact);
  EXPECT_EQ(Served(file, kTwoGpusAndCpu, modes, Sums::kByGroup),
            Served(file, kTwoGpusAndCpu, FfnMode::kDense, Sums::kByLinks));
}

TEST_F(GroupStage, ValuesOfAGroupDoNotCrossTheHost) {
  const TempFile file(testing::TinyModel(Spec("arcee")));
  const auto sent = [&](Sums sums) {
    GroupCluster cluster(file, kTwoGpus, FfnMode::kExact, FakeMember);
    ServedBy(&cluster, sums);
    return std::pair(cluster.link_bytes_sent(0), cluster.link_bytes_sent(1));
  };
  const auto [lead, helper] = sent(Sums::kByGroup);
  const auto [lead_by_links, helper_by_links] = sent(Sums::kByLinks);
  EXPECT_LT(lead, lead_by_links / 4) << "what remains is news of what comes";
  EXPECT_EQ(helper, 0u);
  EXPECT_GT(helper_by_links, 0u);
}

// A member that gives up ends the others' waits. They stay for the coordinator's next plan, which
// another group serves.
TEST_F(GroupStage, AfterALossTheNextPlanHasAnotherGroup) {
  const TempFile file(testing::TinyModel(Spec("arcee")));
  const GroupResults wanted = Served(file, kTwoGpusAndCpu, FfnMode::kExact, Sums::kByGroup);
  GroupCluster cluster(file, kTwoGpusAndCpu, FfnMode::kExact, FakeMember);
  cluster.Start(Sums::kByGroup);
  EXPECT_EQ(cluster.Serve(), wanted);
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
  for (size_t m = 0; m < 3; ++m) held.push_back(cluster.loop(m).End());
  const std::string id = cluster.MakeId();
  for (size_t m = 0; m < 3; ++m) {
    cluster.StartOne(m, cluster.MessageOf(Sums::kByGroup, id), std::move(held[m]));
  }
  for (size_t m = 0; m < 3; ++m) cluster.AwaitReady();
  EXPECT_EQ(cluster.Serve(), wanted);
}

TEST_F(GroupStage, AMemberThatNeverComesKeepsNobodyFromStopping) {
  const TempFile file(testing::TinyModel(Spec("arcee")));
  GroupCluster cluster(file, kTwoGpus, FfnMode::kExact, FakeMember);
  cluster.StartOne(0, cluster.MessageOf(Sums::kByGroup, cluster.MakeId()));
  cluster.AwaitReady();  // from now on it waits for the other one
  EXPECT_LT(cluster.End().count(), kSoon.count());
  EXPECT_EQ(cluster.n_failures(), 0);
}

TEST_F(GroupStage, WorkThatNeverEndsKeepsNobodyFromStopping) {
  const TempFile file(testing::TinyModel(Spec("arcee")));
  GroupCluster cluster(file, kTwoGpus, FfnMode::kExact, FakeMember);
  cluster.Start(Sums::kByGroup);
  cluster.Submit(1, {GroupEntry({1}, 0, {5, 17})});
  cluster.AwaitResult();
  SetFaults({.work_hangs = true});
  cluster.Submit(2, {GroupEntry({1}, 2, {5})});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // most likely it waits by now
  EXPECT_LT(cluster.End().count(), kSoon.count());
  EXPECT_EQ(cluster.n_failures(), 0);
}

// Its copies lie behind that work.
TEST_F(GroupStage, AProbeBehindWorkThatNeverEndsKeepsNobodyFromStopping) {
  const TempFile file(testing::TinyModel(Spec("arcee")));
  GroupCluster cluster(file, kTwoGpus, FfnMode::kExact, FakeMember);
  cluster.Start(Sums::kByGroup);
  cluster.Submit(1, {GroupEntry({1}, 0, {5, 17})});
  cluster.AwaitResult();
  SetFaults({.work_hangs = true});
  cluster.Submit(2, {GroupEntry({1}, 2, {5})});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // most likely it waits by now
  for (size_t member : {0, 1}) {
    cluster.loop(member).Probe({.peer = {2 - member},
                                .address = cluster.AddressOf(1 - member),
                                .leads = true,
                                .budget_us = 1000,
                                .patience_us = 20'000'000});
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_LT(cluster.End().count(), kSoon.count());
  EXPECT_EQ(cluster.n_failures(), 0);
}

TEST_F(GroupStage, AGroupForAWorkerWithoutNcclIsRefused) {
  const auto device = testing::MakeApartDevice();
  EXPECT_EQ(CheckWays(nullptr, *device).code(), StatusCode::kUnavailable);
  const GpuWays none =
      OpenGpuWays(0, comm::NcclLibrary::Load({.library = "libthere-is-no-such.so.2"}), TC_FAKE_GPU);
  EXPECT_EQ(none.nccl, nullptr);
  EXPECT_EQ(none.gpu->uuid(), "10101010101010101010101010101010");
  EXPECT_EQ(none.MakeId(), "");
  EXPECT_THAT(CheckWays(&none, *device).message(),
              HasSubstr("NCCL for a worker that has none: device=apart"));
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
