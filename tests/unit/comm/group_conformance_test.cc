// What every Group must do, run on each of them: over links in the host's memory, and by NCCL; GPUs
// and NCCL are threads of this process.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <thread>

#include "base/rng.h"
#include "comm/data_ports.h"
#include "comm/group.h"
#include "tests/support/frames.h"
#include "tests/support/link_group.h"
#include "tests/support/patience.h"
#include "tests/support/status_matchers.h"

namespace thermocline::comm {
namespace {

using testing::In;
using testing::IsOk;
using testing::MakeLinkGroup;

constexpr int kMembers = 3;

TimePoint Soon() { return In(testing::kPatience); }

std::span<double> AsDoubles(std::span<std::byte> bytes) {
  return {reinterpret_cast<double*>(bytes.data()), bytes.size() / sizeof(double)};
}

// A member with memory where its group has it.
class Member {
 public:
  Group& group() const { return *group_; }
  GpuStream stream() const { return stream_.get(); }

  Status Broadcast(std::vector<float>* data, TimePoint deadline = Soon()) {
    return With(data->data(), data->size() * sizeof(float), deadline,
                [&](auto bytes) { return group().Broadcast(bytes, stream(), deadline); });
  }
  Status Sum(std::vector<double>* data, TimePoint deadline = Soon()) {
    return With(data->data(), data->size() * sizeof(double), deadline,
                [&](auto bytes) { return group().Sum(AsDoubles(bytes), stream(), deadline); });
  }

  Status Receive(int from, std::vector<float>* data, TimePoint deadline = Soon()) {
    return With(data->data(), data->size() * sizeof(float), deadline,
                [&](auto bytes) { return group().Receive(from, bytes, stream(), deadline); });
  }
  Status Send(std::vector<float>* data, TimePoint deadline = Soon()) {
    return With(data->data(), data->size() * sizeof(float), deadline,
                [&](auto bytes) { return group().Send(bytes, stream(), deadline); });
  }

  std::vector<std::unique_ptr<Link>> links_;
  std::unique_ptr<Gpu> gpu_;
  Gpu::Stream stream_;
  std::unique_ptr<Group> group_;

 private:
  using Operation = std::function<Status(std::span<std::byte>)>;

  Status With(void* data, size_t n_bytes, TimePoint deadline, const Operation& operation) {
    if (gpu_ == nullptr) {
      return operation({static_cast<std::byte*>(data), n_bytes});
    }
    TC_ASSIGN_OR_RETURN(const Gpu::Memory memory, gpu_->Allocate(n_bytes));
    TC_RETURN_IF_ERROR(gpu_->Copy(memory.get(), data, n_bytes, stream()));
    TC_RETURN_IF_ERROR(operation({static_cast<std::byte*>(memory.get()), n_bytes}));
    TC_RETURN_IF_ERROR(gpu_->Copy(data, memory.get(), n_bytes, stream()));
    return group().Await(stream(), deadline);
  }
};

void OnEach(std::vector<Member>& members, const std::function<void(int, Member&)>& work) {
  std::vector<std::thread> threads;
  for (size_t i = 0; i < members.size(); ++i) {
    threads.emplace_back([&, i] { work(static_cast<int>(i), members[i]); });
  }
  for (std::thread& thread : threads) thread.join();
}

// Members of one process with what joins them.
struct Stage {
  LoopbackHub hub;
  std::vector<std::unique_ptr<DataPort>> ports;
  std::unique_ptr<NcclLibrary> nccl;
  std::vector<Member> members;
};

std::unique_ptr<Stage> NewStage(int n) {
  auto stage = std::make_unique<Stage>();
  for (uint64_t i = 0; i < static_cast<uint64_t>(n); ++i) {
    stage->ports.push_back(stage->hub.MakePort(WorkerId{i}));
  }
  stage->members.resize(static_cast<size_t>(n));
  return stage;
}

std::unique_ptr<Stage> JoinByLinks(int n) {
  auto stage = NewStage(n);
  for (int i = 0; i < n; ++i) {
    Member& member = stage->members[static_cast<size_t>(i)];
    std::vector<Link*> links;
    for (int other = 0; other < n; ++other) {
      if (other == i || (i != 0 && other != 0)) continue;
      const WorkerId peer{static_cast<uint64_t>(other)};
      member.links_.push_back(std::move(stage->ports[static_cast<size_t>(i)]->Open(
                                            peer, stage->ports[peer.value]->address()))
                                  .value());
      links.push_back(member.links_.back().get());
    }
    member.group_ = std::move(MakeLinkGroup(i, n, links)).value();
  }
  return stage;
}

void OpenGpu(int ordinal, Member* member) {
  member->gpu_ = std::move(Gpu::Open(ordinal, TC_FAKE_GPU)).value();
  member->stream_ = std::move(member->gpu_->MakeStream()).value();
}

std::unique_ptr<Stage> JoinByNccl(int n) {
  auto stage = NewStage(n);
  stage->nccl = std::move(NcclLibrary::Load({.library = TC_FAKE_GPU})).value();
  const std::string id = stage->nccl->MakeId().value();
  OnEach(stage->members, [&](int i, Member& member) {
    OpenGpu(i, &member);
    auto group = MakeNcclGroup(*stage->nccl, *member.gpu_, {id, i, n}, Soon());
    ASSERT_THAT(group.status(), IsOk());
    member.group_ = std::move(group).value();
  });
  return stage;
}

struct Implementation {
  const char* name;
  std::unique_ptr<Stage> (*join)(int n_members);
};

constexpr Implementation kImplementations[] = {{"links", JoinByLinks}, {"nccl", JoinByNccl}};

class GroupConformance : public ::testing::TestWithParam<Implementation> {};

std::vector<float> PartOf(int member, uint64_t round) {
  std::vector<float> part(257);
  for (size_t i = 0; i < part.size(); ++i) {
    part[i] = static_cast<float>(UniformAt(100 + static_cast<uint64_t>(member), round * 1000 + i));
  }
  return part;
}

std::vector<double> DoublesOf(int member, uint64_t round) {
  const std::vector<float> part = PartOf(member, round);
  return {part.begin(), part.end()};
}

TEST_P(GroupConformance, MembersKnowTheirPlaces) {
  const auto stage = GetParam().join(kMembers);
  for (int i = 0; i < kMembers; ++i) {
    EXPECT_EQ(stage->members[static_cast<size_t>(i)].group().self(), i);
    EXPECT_EQ(stage->members[static_cast<size_t>(i)].group().n_members(), kMembers);
  }
}

TEST_P(GroupConformance, EveryMemberGetsTheLeadsBytes) {
  const auto stage = GetParam().join(kMembers);
  OnEach(stage->members, [&](int i, Member& member) {
    std::vector<float> data = PartOf(i, 0);
    EXPECT_THAT(member.Broadcast(&data), IsOk());
    EXPECT_EQ(data, PartOf(0, 0)) << "member " << i;
  });
}

// The same everywhere, close to the sum in double, and the same again when it is done again.
TEST_P(GroupConformance, SumsAreTheSameAtAllMembersAndEveryTime) {
  const auto stage = GetParam().join(kMembers);
  std::vector<std::vector<double>> first(kMembers);
  for (int again = 0; again < 20; ++again) {
    OnEach(stage->members, [&](int i, Member& member) {
      std::vector<double> data = DoublesOf(i, 7);
      ASSERT_THAT(member.Sum(&data), IsOk());
      if (again == 0) first[static_cast<size_t>(i)] = data;
      EXPECT_EQ(data, first[static_cast<size_t>(i)]) << "run " << again;
    });
  }
  EXPECT_EQ(first[1], first[0]);
  EXPECT_EQ(first[2], first[0]);
  for (size_t k = 0; k < first[0].size(); ++k) {
    double wanted = 0;
    for (int i = 0; i < kMembers; ++i) wanted += PartOf(i, 7)[k];
    EXPECT_EQ(first[0][k], wanted) << "values of 24 bits, in whatever order";
  }
}

// As a stage does: x goes out, sums come back, layer after layer, and only then somebody waits.
TEST_P(GroupConformance, OperationsFollowEachOtherOnTheStream) {
  constexpr int kLayers = 30;  // powers of 3 that F64 holds
  const auto stage = GetParam().join(kMembers);
  OnEach(stage->members, [&](int i, Member& member) {
    std::vector<double> x(64, i == 0 ? 1.0 : 0.0);
    std::span<std::byte> data = std::as_writable_bytes(std::span(x));
    Gpu::Memory memory;
    if (member.gpu_ != nullptr) {
      memory = std::move(member.gpu_->Allocate(data.size())).value();
      ASSERT_THAT(member.gpu_->Copy(memory.get(), x.data(), data.size(), member.stream()), IsOk());
      data = {static_cast<std::byte*>(memory.get()), data.size()};
    }
    for (int layer = 0; layer < kLayers; ++layer) {
      ASSERT_THAT(member.group().Broadcast(data, member.stream(), Soon()), IsOk());
      ASSERT_THAT(member.group().Sum(AsDoubles(data), member.stream(), Soon()), IsOk());
    }
    if (memory != nullptr) {
      ASSERT_THAT(member.gpu_->Copy(x.data(), memory.get(), data.size(), member.stream()), IsOk());
    }
    ASSERT_THAT(member.group().Await(member.stream(), Soon()), IsOk());
    EXPECT_EQ(x, std::vector<double>(64, std::pow(3.0, double(kLayers))));
  });
}

// What each of the others has goes to the lead, of whatever size, between other operations.
TEST_P(GroupConformance, TheLeadGetsWhatOneMemberHas) {
  const auto stage = GetParam().join(kMembers);
  OnEach(stage->members, [&](int i, Member& member) {
    for (int again = 0; again < 3; ++again) {
      std::vector<float> x = PartOf(i, 0);
      EXPECT_THAT(member.Broadcast(&x), IsOk());
      if (i > 0) {
        std::vector<float> own = PartOf(i, again);
        own.resize(own.size() - static_cast<size_t>(i));
        EXPECT_THAT(member.Send(&own), IsOk());
        continue;
      }
      for (int other = kMembers - 1; other > 0; --other) {
        std::vector<float> wanted = PartOf(other, again);
        wanted.resize(wanted.size() - static_cast<size_t>(other));
        std::vector<float> got(wanted.size());
        EXPECT_THAT(member.Receive(other, &got), IsOk());
        EXPECT_EQ(got, wanted);
      }
    }
  });
}

TEST_P(GroupConformance, AMissingMemberEndsTheGroupByTheDeadline) {
  const auto stage = GetParam().join(kMembers);
  Member& lead = stage->members[0];
  std::vector<double> part(4);
  const Status status = lead.Sum(&part, In(std::chrono::milliseconds(20)));
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded) << status;
  EXPECT_EQ(lead.Sum(&part).message(), status.message()) << "the group is of no more use";
  EXPECT_EQ(lead.group().Await(lead.stream(), Soon()).message(), status.message());
}

TEST_P(GroupConformance, AGroupOfOneNeedsNobody) {
  const auto stage = GetParam().join(1);
  std::vector<double> sums = {1, 2};
  EXPECT_THAT(stage->members[0].Sum(&sums), IsOk());
  EXPECT_EQ(sums, (std::vector<double>{1, 2}));
  std::vector<float> x = {1, 2};
  EXPECT_THAT(stage->members[0].Broadcast(&x), IsOk());
  EXPECT_EQ(x, (std::vector<float>{1, 2}));
}

INSTANTIATE_TEST_SUITE_P(All, GroupConformance, ::testing::ValuesIn(kImplementations),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(LinkGroup, SumsAreAddedInMemberOrder) {
  const auto stage = JoinByLinks(kMembers);
  // Of more bits than 24: another order gives others.
  const auto part_of = [](int i) {
    std::vector<double> part = DoublesOf(i, 1);
    for (double& value : part) value *= 1 + 1e-9 * i;
    return part;
  };
  std::vector<double> wanted = part_of(0);
  for (int i = 1; i < kMembers; ++i) {
    const std::vector<double> part = part_of(i);
    for (size_t k = 0; k < wanted.size(); ++k) wanted[k] += part[k];
  }
  OnEach(stage->members, [&](int i, Member& member) {
    std::vector<double> part = part_of(i);
    EXPECT_THAT(member.Sum(&part), IsOk());
    EXPECT_EQ(part, wanted);
  });
}

TEST(LinkGroup, AnotherSizeIsNamed) {
  const auto stage = JoinByLinks(kMembers);
  OnEach(stage->members, [&](int i, Member& member) {
    std::vector<double> part(i == 2 ? 3 : 4, 1.0);
    const Status status = member.Sum(&part, i == 0 ? Soon() : In(std::chrono::milliseconds(50)));
    if (i == 0) {
      EXPECT_EQ(status.code(), StatusCode::kDataLoss);
      EXPECT_NE(status.message().find("peer=2"), std::string::npos) << status;
    }
  });
}

TEST(LinkGroup, LinksMustFitTheMember) {
  EXPECT_EQ(MakeLinkGroup(0, 2, {}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(MakeLinkGroup(2, 2, {}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(MakeLinkGroup(0, 0, {}).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace thermocline::comm
