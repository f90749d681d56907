#include "base/cpu_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "base/str.h"

namespace thermocline {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ErrorOf(const std::string& text) {
  const auto cpus = ParseCpuList(text);
  EXPECT_EQ(cpus.status().code(), StatusCode::kInvalidArgument) << text;
  return cpus.status().message();
}

TEST(CpuList, TakesWhatTheProcessMayUseInTheOrderGiven) {
  const std::vector<int> allowed = AllowedCpus();
  ASSERT_FALSE(allowed.empty());
  EXPECT_EQ(*ParseCpuList(CpuListText(allowed)), allowed);
  EXPECT_TRUE(ParseCpuList("")->empty());
  std::vector<int> backwards(allowed.rbegin(), allowed.rend());
  std::string text;
  for (const int cpu : backwards) text += Str(text.empty() ? "" : ",", cpu);
  EXPECT_EQ(*ParseCpuList(text), backwards);
}

TEST(CpuList, NamesWhatIsWrong) {
  for (const char* text : {"x", "1-", "-1", "3-1", "0,", ",0", "0 1", "0-1-2", "99999999999"}) {
    EXPECT_THAT(ErrorOf(text), HasSubstr("not a list of CPUs")) << text;
  }
  const int first = AllowedCpus().front();
  EXPECT_THAT(ErrorOf(Str(first, ",", first)), HasSubstr(Str("named twice: cpu=", first)));
  // More than a set of CPUs holds, and a range that would fill memory if it were listed first.
  for (const char* text : {"100000", "100000-2000000000"}) {
    EXPECT_THAT(ErrorOf(text), HasSubstr("not for this process: cpu=100000 allowed=")) << text;
  }
}

TEST(CpuList, TextJoinsNeighbours) {
  EXPECT_EQ(CpuListText(std::vector<int>{}), "");
  EXPECT_EQ(CpuListText(std::vector<int>{0, 1, 2, 3, 8}), "0-3,8");
  EXPECT_EQ(CpuListText(std::vector<int>{3, 2, 5, 6}), "3,2,5-6");
}

TEST(CpuList, AThreadStaysWhereItIsPut) {
  const std::vector<int> allowed = AllowedCpus();
  std::vector<int> inside, inherited;
  std::thread thread([&] {
    EXPECT_TRUE(RunOn(std::vector<int>{allowed.back()}).ok());
    inside = AllowedCpus();
    std::thread([&] { inherited = AllowedCpus(); }).join();
  });
  thread.join();
  EXPECT_THAT(inside, ElementsAre(allowed.back()));
  EXPECT_THAT(inherited, ElementsAre(allowed.back()));
  EXPECT_TRUE(RunOn({}).ok());
  EXPECT_EQ(AllowedCpus(), allowed);
  const Status status = RunOn(std::vector<int>{1 << 20});
  EXPECT_THAT(status.message(), HasSubstr("cpus=1048576"));
}

TEST(CpuList, ThreadsFollowTheList) {
  const std::vector<int> cpus = {4, 5, 9};
  EXPECT_EQ(*ThreadsOn(cpus, 0), 3);
  EXPECT_EQ(*ThreadsOn(cpus, 2), 2);
  EXPECT_EQ(*ThreadsOn({}, 7), 7);
  EXPECT_EQ(*ThreadsOn({}, 0), static_cast<int>(AllowedCpus().size()));
  EXPECT_THAT(ThreadsOn(cpus, 4).status().message(), HasSubstr("threads=4 cpus=4-5,9"));
}

}  // namespace
}  // namespace thermocline
