#include "worker/flags.h"

#include <gtest/gtest.h>

#include <map>

namespace thermocline::worker {
namespace {

comm::EnvironmentLookup Environment(std::map<std::string, std::string> variables) {
  return [variables = std::move(variables)](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    if (found == variables.end()) return std::nullopt;
    return found->second;
  };
}

WorkerFlags Joining() {
  WorkerFlags flags;
  flags.join = "tcp://head:4000";
  flags.key = comm::ClusterKey::Generate().ToString();
  return flags;
}

TEST(WorkerFlags, JoinAndKeyAreNeededWithoutMpi) {
  WorkerFlags flags;
  EXPECT_NE(ResolveWorkerFlags(flags, Environment({})).status().message().find("--join"),
            std::string::npos);
  flags.join = "tcp://head:4000";
  EXPECT_NE(ResolveWorkerFlags(flags, Environment({})).status().message().find("--key"),
            std::string::npos);
  flags.under_mpi = true;
  EXPECT_TRUE(ResolveWorkerFlags(flags, Environment({})).ok());
}

TEST(WorkerFlags, TheKeyMayComeFromTheEnvironmentAndIsNeverRepeated) {
  WorkerFlags flags = Joining();
  const std::string key = std::exchange(flags.key, "");
  EXPECT_TRUE(ResolveWorkerFlags(flags, Environment({{"THERMOCLINE_CLUSTER_KEY", key}})).ok());
  flags.key = "not-a-key-but-secret";
  const Status status = ResolveWorkerFlags(flags, Environment({})).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message().find("secret"), std::string::npos);
}

TEST(WorkerFlags, MemoryIsParsedAndNamed) {
  WorkerFlags flags = Joining();
  flags.memory = "1.5G";
  EXPECT_EQ(ResolveWorkerFlags(flags, Environment({}))->memory_bytes, 3ull << 29);
  flags.memory = "lots";
  EXPECT_NE(ResolveWorkerFlags(flags, Environment({})).status().message().find("--memory"),
            std::string::npos);
}

TEST(WorkerFlags, WorkersOfOneHostShareItsCores) {
  WorkerFlags flags = Joining();
  const int alone = ResolveWorkerFlags(flags, Environment({}))->n_threads;
  const int shared = ResolveWorkerFlags(flags, Environment({{"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
                                                            {"OMPI_COMM_WORLD_RANK", "1"},
                                                            {"OMPI_COMM_WORLD_LOCAL_RANK", "1"}}))
                         ->n_threads;
  EXPECT_EQ(shared, std::max(1, alone / 3));  // the fourth process is the coordinator
  flags.n_threads = 5;
  EXPECT_EQ(ResolveWorkerFlags(flags, Environment({}))->n_threads, 5);
}

TEST(WorkerFlags, CacheDirFollowsTheEnvironment) {
  const WorkerFlags flags = Joining();
  EXPECT_EQ(ResolveWorkerFlags(flags, Environment({{"HOME", "/home/a"}}))->cache_dir,
            "/home/a/.cache/thermocline");
  EXPECT_EQ(ResolveWorkerFlags(flags, Environment({{"HOME", "/home/a"}, {"XDG_CACHE_HOME", "/c"}}))
                ->cache_dir,
            "/c/thermocline");
}

}  // namespace
}  // namespace thermocline::worker
