// Two real GPUs joined by NCCL, in a stage and between stages, where two are; elsewhere it skips
// with one line.
#include <gtest/gtest.h>

#include "tests/support/group_cluster.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"

namespace thermocline::worker {
namespace {

using testing::GroupCluster;
using testing::GroupLayout;
using testing::GroupResults;
using testing::MemberDevice;
using testing::Sums;
using testing::TempFile;

// What keeps a machine from running these tests; "" when nothing does.
std::string Missing(int n_gpus) {
  if (const auto nccl = comm::NcclLibrary::Load({}); !nccl.ok()) return nccl.status().message();
  const auto gpu = kernels::MakeCudaDevice(n_gpus - 1);
  return gpu.ok() ? "" : gpu.status().message();
}

MemberDevice RealMember(int gpu) {
  MemberDevice member;
  member.ways = OpenGpuWays(gpu, comm::NcclLibrary::Load({}));
  member.device = std::move(kernels::MakeCudaDevice(gpu)).value();
  return member;
}

// Two members add in any order to the same bits.
TEST(GroupOnGpus, TwoGiveTheBitsOfLinks) {
  if (const std::string missing = Missing(2); !missing.empty()) GTEST_SKIP() << missing;
  const TempFile file(testing::TinyModel(
      {.arch = "arcee", .n_layer = testing::kGroupLayers, .n_ff = testing::kGroupNeurons}));
  for (const GroupLayout& layout : {GroupLayout{.name = "two GPUs", .on_gpu = {true, true}},
                                    {.name = "and a CPU", .on_gpu = {true, true, false}}}) {
    GroupCluster by_links(file, layout, model::FfnMode::kExact, RealMember);
    const GroupResults wanted = ServedBy(&by_links, Sums::kByLinks);
    for (int again = 0; again < 2; ++again) {
      GroupCluster by_group(file, layout, model::FfnMode::kExact, RealMember);
      EXPECT_EQ(ServedBy(&by_group, Sums::kByGroup), wanted) << layout.name;
    }
  }
}

// Activations come as they are, whatever their way.
TEST(LinkOfGpus, TwoStagesGiveTheBitsOfTheHostsLinks) {
  if (const std::string missing = Missing(2); !missing.empty()) GTEST_SKIP() << missing;
  const TempFile file(testing::TinyModel(
      {.arch = "arcee", .n_layer = testing::kGroupLayers, .n_ff = testing::kGroupNeurons}));
  const GroupLayout layout{.name = "stages", .on_gpu = {false, true, true}, .in_stages = true};
  const auto always_nccl = [](int gpu) {
    MemberDevice member = RealMember(gpu);
    member.ways.always_nccl = true;
    return member;
  };
  GroupCluster by_hosts(file, layout, model::FfnMode::kExact, always_nccl);
  GroupCluster by_nccl(file, layout, model::FfnMode::kExact, always_nccl);
  EXPECT_EQ(ServedBy(&by_nccl, Sums::kByGroup), ServedBy(&by_hosts, Sums::kByLinks));
}

// What a plan for one GPU needs of NCCL: it is found, and a group of one comes and goes on the
// device's own stream.
TEST(GroupOnGpus, OneAddsItsSumsToNobodys) {
  if (const std::string missing = Missing(1); !missing.empty()) GTEST_SKIP() << missing;
  const MemberDevice member = RealMember(0);
  ASSERT_NE(member.ways.nccl, nullptr);
  const SteadyClock clock;
  const std::string id = member.ways.MakeId();
  auto met = comm::MakeNcclGroup(*member.ways.nccl, *member.ways.gpu, {.id = id},
                                 clock.Now() + std::chrono::seconds(60));
  ASSERT_TRUE(met.ok()) << met.status();
  StageGroup group(*std::move(met), member.device->stream(), clock);
  const std::vector<double> values = {1, 2, 3, 4};
  Buffer memory = std::move(member.device->Allocate(32)).value();
  Buffer host = std::move(member.device->AllocateHost(32)).value();
  const TensorView x = TensorView::F32(reinterpret_cast<float*>(memory.data()), 1, 8);
  member.device->CopyToDevice(reinterpret_cast<const std::byte*>(values.data()), memory.data(), 32);
  ASSERT_TRUE(group.Broadcast({}, x, {}).ok());
  ASSERT_TRUE(group.Sum({reinterpret_cast<double*>(memory.data()), 1, 4}).ok());
  member.device->CopyToHost(memory.data(), host.data(), 32);
  ASSERT_TRUE(member.device->Synchronize().ok());
  ASSERT_TRUE(group.Check().ok());
  const auto* sums = reinterpret_cast<const double*>(host.data());
  EXPECT_EQ(std::vector<double>(sums, sums + 4), values);
}

}  // namespace
}  // namespace thermocline::worker
