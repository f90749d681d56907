// NCCL and the driver themselves, where there are GPUs: a group of one, and of two where two are,
// one process for each. They skip with one line elsewhere.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <vector>

#include "comm/group.h"
#include "tests/support/frames.h"
#include "tests/support/nccl_rejoin.h"
#include "tests/support/patience.h"
#include "tests/support/status_matchers.h"

namespace thermocline::comm {
namespace {

using testing::In;
using testing::IsOk;
using testing::kPatience;

TimePoint Soon() { return In(kPatience); }

// A member of a group with its values on a GPU.
struct Member {
  std::unique_ptr<NcclLibrary> nccl;
  std::unique_ptr<Gpu> gpu;
  Gpu::Stream stream;
  Gpu::Memory memory;
  std::unique_ptr<Group> group;

  std::span<double> Values(size_t n) const { return {static_cast<double*>(memory.get()), n}; }
};

constexpr size_t kElems = 8192;  // a row of sums of a large model

Status Open(int ordinal, Member* member) {
  TC_ASSIGN_OR_RETURN(member->nccl, NcclLibrary::Load({}));
  TC_ASSIGN_OR_RETURN(member->gpu, Gpu::Open(ordinal));
  TC_ASSIGN_OR_RETURN(member->stream, member->gpu->MakeStream());
  TC_ASSIGN_OR_RETURN(member->memory, member->gpu->Allocate(kElems * sizeof(double)));
  return OkStatus();
}

Status JoinGroup(const NcclPlace& place, Member* member) {
  TC_ASSIGN_OR_RETURN(member->group, MakeNcclGroup(*member->nccl, *member->gpu, place, Soon()));
  return OkStatus();
}

// The values after a sum over the members.
Result<std::vector<double>> SumOf(std::vector<double> values, const Member& member) {
  const size_t n_bytes = values.size() * sizeof(double);
  TC_RETURN_IF_ERROR(
      member.gpu->Copy(member.memory.get(), values.data(), n_bytes, member.stream.get()));
  TC_RETURN_IF_ERROR(member.group->Sum(member.Values(values.size()), member.stream.get(), Soon()));
  TC_RETURN_IF_ERROR(
      member.gpu->Copy(values.data(), member.memory.get(), n_bytes, member.stream.get()));
  TC_RETURN_IF_ERROR(member.group->Await(member.stream.get(), Soon()));
  return values;
}

// What keeps a machine from running these tests; "" when nothing does.
std::string Missing(int n_gpus) {
  if (const auto nccl = NcclLibrary::Load({}); !nccl.ok()) return nccl.status().message();
  const auto gpu = Gpu::Open(n_gpus - 1);
  return gpu.ok() ? "" : gpu.status().message();
}

// Runs `work` as member 0 and 1, each in a process of its own before either has touched a GPU; they
// are joined by a pipe from 0 to 1. True when both return true.
bool InTwoProcesses(const std::function<bool(int member, int pipe_end)>& work) {
  std::array<int, 2> ends{};
  if (pipe(ends.data()) != 0) return false;
  std::array<pid_t, 2> children{};
  for (int i = 0; i < 2; ++i) {
    children[size_t(i)] = fork();
    if (children[size_t(i)] == 0) _exit(work(i, ends[i == 0 ? 1 : 0]) ? 0 : 1);
  }
  bool all = true;
  for (const pid_t child : children) {
    int status = 1;
    waitpid(child, &status, 0);
    all = all && status == 0;
  }
  return all;
}

bool SumsOverTwo(int rank, int pipe_end) {
  Member member;
  if (const Status opened = Open(rank, &member); !opened.ok()) return false;
  std::string id(kNcclIdBytes, '\0');
  if (rank == 0) {
    id = member.nccl->MakeId().value();
    if (write(pipe_end, id.data(), id.size()) != ssize_t(id.size())) return false;
  } else if (read(pipe_end, id.data(), id.size()) != ssize_t(id.size())) {
    return false;
  }
  if (!JoinGroup({id, rank, 2}, &member).ok()) return false;
  std::vector<double> values(kElems);
  for (size_t i = 0; i < kElems; ++i) values[i] = double(i) * (rank == 0 ? 1.0 : 0x1p-40);
  for (int round = 0; round < 10; ++round) {
    const auto sum = SumOf(values, member);
    for (size_t i = 0; sum.ok() && i < kElems; ++i) {
      if ((*sum)[i] != double(i) * (1 + 0x1p-40)) return false;
    }
    if (!sum.ok()) return false;
  }
  return true;
}

// Before the other test, which starts CUDA in this process: that does not survive a fork. So
// whether there are two is asked in a process that ends.
TEST(NcclOnGpus, TwoGpusAddTheirValues) {
  const pid_t asks = fork();
  if (asks == 0) _exit(Missing(2).empty() ? 0 : 1);
  int status = 1;
  waitpid(asks, &status, 0);
  if (status != 0) GTEST_SKIP() << "no two GPUs, or no NCCL";
  EXPECT_TRUE(InTwoProcesses(SumsOverTwo));
}

TEST(NcclOnGpus, AGroupOfOneKeepsItsValues) {
  if (const std::string missing = Missing(1); !missing.empty()) GTEST_SKIP() << missing;
  Member member;
  ASSERT_THAT(Open(0, &member), IsOk());
  const std::string id = member.nccl->MakeId().value();
  ASSERT_THAT(JoinGroup({id, 0, 1}, &member), IsOk());
  const std::vector<double> values(kElems, 1.5);
  for (int i = 0; i < 3; ++i) {
    const auto sum = SumOf(values, member);
    ASSERT_THAT(sum.status(), IsOk());
    EXPECT_EQ(*sum, values);
  }
  const std::span<std::byte> x = std::as_writable_bytes(member.Values(8));
  EXPECT_THAT(member.group->Broadcast(x, member.stream.get(), Soon()), IsOk());
  EXPECT_THAT(member.group->Await(member.stream.get(), Soon()), IsOk());
}

// What a lost worker asks of the others: their group ends, and the next plan has another.
TEST(NcclOnGpus, AfterAnAbortAGroupMeetsElsewhere) {
  if (const std::string missing = Missing(1); !missing.empty()) GTEST_SKIP() << missing;
  const auto nccl = std::move(NcclLibrary::Load({})).value();
  const auto gpu = std::move(Gpu::Open(0)).value();
  testing::ExpectRejoinsAfterAborts(*nccl, *gpu, [](bool) {});
}

}  // namespace
}  // namespace thermocline::comm
