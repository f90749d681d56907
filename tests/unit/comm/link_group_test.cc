#include <gtest/gtest.h>

#include <thread>

#include "base/rng.h"
#include "base/str.h"
#include "comm/data_ports.h"
#include "comm/group.h"
#include "tests/support/status_matchers.h"

namespace thermocline::comm {
namespace {

using testing::IsOk;

constexpr int kMembers = 3;

TimePoint Soon() { return SteadyClock().Now() + std::chrono::seconds(10); }

// Three members in one process, each driven by its own thread.
class LinkGroupTest : public ::testing::Test {
 protected:
  LinkGroupTest() {
    for (int i = 0; i < kMembers; ++i) {
      ports_.push_back(hub_.MakePort(WorkerId{static_cast<uint64_t>(i)}));
    }
    std::vector<Link*> star;
    for (int i = 1; i < kMembers; ++i) {
      star.push_back(Open(0, i));
      groups_.push_back(std::move(MakeLinkGroup(i, kMembers, {Open(i, 0)})).value());
    }
    groups_.insert(groups_.begin(), std::move(MakeLinkGroup(0, kMembers, star)).value());
  }

  Link* Open(int from, int to) {
    auto link = ports_[static_cast<size_t>(from)]->Open(WorkerId{static_cast<uint64_t>(to)},
                                                        ports_[static_cast<size_t>(to)]->address());
    EXPECT_THAT(link.status(), IsOk());
    links_.push_back(std::move(link).value());
    return links_.back().get();
  }

  template <typename Work>
  void OnEachMember(Work work) {
    std::vector<std::thread> threads;
    for (int i = 0; i < kMembers; ++i) {
      threads.emplace_back([&, i] { work(i, *groups_[static_cast<size_t>(i)]); });
    }
    for (std::thread& thread : threads) thread.join();
  }

  LoopbackHub hub_;
  std::vector<std::unique_ptr<DataPort>> ports_;
  std::vector<std::unique_ptr<Link>> links_;
  std::vector<std::unique_ptr<Group>> groups_;
};

std::vector<float> PartOf(int member, uint64_t round) {
  std::vector<float> part(257);
  for (size_t i = 0; i < part.size(); ++i) {
    part[i] = static_cast<float>(UniformAt(100 + static_cast<uint64_t>(member), round * 1000 + i));
  }
  return part;
}

TEST_F(LinkGroupTest, EveryMemberGetsTheLeadsBytes) {
  std::vector<std::vector<float>> data;
  for (int i = 0; i < kMembers; ++i) data.push_back(PartOf(i, 0));
  OnEachMember([&](int i, Group& group) {
    const auto bytes = std::as_writable_bytes(std::span(data[static_cast<size_t>(i)]));
    EXPECT_THAT(group.Broadcast(bytes, Soon()), IsOk());
  });
  for (const auto& got : data) EXPECT_EQ(got, PartOf(0, 0));
}

TEST_F(LinkGroupTest, SumsAreAddedInMemberOrderEveryTime) {
  for (uint64_t round = 0; round < 50; ++round) {
    std::vector<float> wanted = PartOf(0, round);
    for (int i = 1; i < kMembers; ++i) {
      const std::vector<float> part = PartOf(i, round);
      for (size_t k = 0; k < wanted.size(); ++k) wanted[k] += part[k];
    }
    std::vector<float> sum;
    OnEachMember([&](int i, Group& group) {
      std::vector<float> part = PartOf(i, round);
      EXPECT_THAT(group.SumToLead(part, Soon()), IsOk());
      if (i == 0) sum = part;
    });
    EXPECT_EQ(sum, wanted) << "round " << round;
  }
}

TEST_F(LinkGroupTest, AnotherSizeIsNamed) {
  OnEachMember([&](int i, Group& group) {
    std::vector<float> part(i == 2 ? 3 : 4, 1.0f);
    const Status status = group.SumToLead(part, Soon());
    if (i == 0) {
      EXPECT_EQ(status.code(), StatusCode::kDataLoss);
      EXPECT_NE(status.message().find("peer=2"), std::string::npos) << status;
    }
  });
}

TEST_F(LinkGroupTest, AMissingMemberEndsByTheDeadline) {
  std::vector<float> part(4);
  const TimePoint deadline = SteadyClock().Now() + std::chrono::milliseconds(20);
  EXPECT_EQ(groups_[0]->SumToLead(part, deadline).code(), StatusCode::kDeadlineExceeded);
}

TEST(LinkGroup, LinksMustFitTheMember) {
  EXPECT_EQ(MakeLinkGroup(0, 2, {}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(MakeLinkGroup(2, 2, {}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(MakeLinkGroup(0, 0, {}).status().code(), StatusCode::kInvalidArgument);
}

TEST(LinkGroup, AGroupOfOneNeedsNobody) {
  auto group = MakeLinkGroup(0, 1, {});
  ASSERT_THAT(group.status(), IsOk());
  std::vector<float> part = {1, 2};
  EXPECT_THAT((*group)->SumToLead(part, Soon()), IsOk());
  EXPECT_EQ(part, (std::vector<float>{1, 2}));
}

}  // namespace
}  // namespace thermocline::comm
