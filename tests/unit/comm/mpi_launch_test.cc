#include "comm/mpi_launch.h"

#include <gtest/gtest.h>

#include <map>

namespace thermocline::comm {
namespace {

std::optional<LaunchInfo> Detect(const std::map<std::string, std::string>& environment) {
  return DetectMpiLaunch([&](const std::string& name) -> std::optional<std::string> {
    const auto found = environment.find(name);
    if (found == environment.end()) return std::nullopt;
    return found->second;
  });
}

void ExpectLaunch(const std::map<std::string, std::string>& environment, int rank, int size) {
  const auto launch = Detect(environment);
  ASSERT_TRUE(launch.has_value());
  EXPECT_EQ(launch->rank, rank);
  EXPECT_EQ(launch->size, size);
}

TEST(MpiLaunch, ReadsEachLaunchersVariables) {
  ExpectLaunch({{"OMPI_COMM_WORLD_RANK", "2"}, {"OMPI_COMM_WORLD_SIZE", "4"}}, 2, 4);
  ExpectLaunch({{"PMI_RANK", "0"}, {"PMI_SIZE", "1"}}, 0, 1);
  ExpectLaunch({{"PMIX_RANK", "3"}, {"SLURM_NTASKS", "8"}}, 3, 8);
}

TEST(MpiLaunch, NothingWithoutALauncher) {
  EXPECT_FALSE(Detect({}).has_value());
  EXPECT_FALSE(Detect({{"SLURM_NTASKS", "8"}}).has_value());
  EXPECT_FALSE(Detect({{"OMPI_COMM_WORLD_RANK", "1"}}).has_value());
}

TEST(MpiLaunch, NothingFromNonsense) {
  for (const char* rank : {"", "x", "-1", "1x", "4", "99999999999"}) {
    EXPECT_FALSE(Detect({{"OMPI_COMM_WORLD_RANK", rank}, {"OMPI_COMM_WORLD_SIZE", "4"}})) << rank;
  }
}

}  // namespace
}  // namespace thermocline::comm
