// A group of two real GPUs by NCCL under a stage, where two are; elsewhere it skips with one line.
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
  const std::vector<float> values = {1, 2, 3, 4};
  Buffer memory = std::move(member.device->Allocate(16)).value();
  Buffer host = std::move(member.device->AllocateHost(16)).value();
  const TensorView x = TensorView::F32(reinterpret_cast<float*>(memory.data()), 1, 4);
  member.device->CopyToDevice(reinterpret_cast<const std::byte*>(values.data()), memory.data(), 16);
  ASSERT_TRUE(group.Broadcast({}, x).ok());
  ASSERT_TRUE(group.Sum(x).ok());
  member.device->CopyToHost(memory.data(), host.data(), 16);
  ASSERT_TRUE(member.device->Synchronize().ok());
  ASSERT_TRUE(group.Check().ok());
  const auto* sums = reinterpret_cast<const float*>(host.data());
  EXPECT_EQ(std::vector<float>(sums, sums + 4), values);
}

}  // namespace
}  // namespace thermocline::worker
