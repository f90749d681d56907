#include "placement/profile.h"

#include <gtest/gtest.h>

#include <limits>

namespace thermocline::placement {
namespace {

TEST(ClusterProfile, NumbersThatCannotBeAreNamed) {
  ClusterProfile cluster{.workers = {{.id = {1}}, {.id = {2}}}};
  EXPECT_TRUE(ValidateCluster(cluster).ok());
  cluster.workers[1].op_overhead_s = Figure::Assumed(-1);
  EXPECT_EQ(ValidateCluster(cluster).message(), "worker 2: op_overhead is negative: -1");
  cluster.workers[1].op_overhead_s = {};
  cluster.links = {{.from = {1},
                    .to = {2},
                    .bytes_per_s = Figure::Assumed(std::numeric_limits<double>::infinity())}};
  EXPECT_EQ(ValidateCluster(cluster).message(), "link 1 -> 2: bytes_per_s is not above 0: inf");
  cluster.links = {{.from = {1}, .to = {2}}, {.from = {1}, .to = {2}}};
  EXPECT_EQ(ValidateCluster(cluster).message(), "link 1 -> 2 stands twice");
}

TEST(ClusterProfile, OriginsAreReadAsTheyAreWritten) {
  for (const Origin origin :
       {Origin::kUnknown, Origin::kAssumed, Origin::kGiven, Origin::kMeasured}) {
    EXPECT_EQ(*ParseOrigin(OriginName(origin)), origin);
  }
  EXPECT_FALSE(ParseOrigin("rumoured").ok());
}

}  // namespace
}  // namespace thermocline::placement
