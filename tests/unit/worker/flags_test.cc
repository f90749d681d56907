#include "worker/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/cpu_list.h"
#include "base/host_info.h"

namespace thermocline::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

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

TEST(WorkerFlags, NcclIsUsedUnlessItIsOff) {
  WorkerFlags flags = Joining();
  EXPECT_TRUE(ResolveWorkerFlags(flags, Environment({}))->uses_nccl);
  flags.nccl = "off";
  EXPECT_FALSE(ResolveWorkerFlags(flags, Environment({}))->uses_nccl);
  flags.nccl = "always";
  EXPECT_TRUE(ResolveWorkerFlags(flags, Environment({}))->always_nccl);
  flags.nccl = "on";
  EXPECT_EQ(ResolveWorkerFlags(flags, Environment({})).status().message(),
            "--nccl: on is none of auto, always and off");
}

TEST(WorkerFlags, GraphsAreMadeUnlessTheyAreOff) {
  WorkerFlags flags = Joining();
  EXPECT_TRUE(ResolveWorkerFlags(flags, Environment({}))->uses_graphs);
  flags.cuda_graphs = "off";
  EXPECT_FALSE(ResolveWorkerFlags(flags, Environment({}))->uses_graphs);
  flags.cuda_graphs = "on";
  EXPECT_EQ(ResolveWorkerFlags(flags, Environment({})).status().message(),
            "--cuda-graphs: on is neither auto nor off");
}

TEST(WorkerFlags, RowsOfNeuronsAreAsTheyAreUnlessAskedFor) {
  WorkerFlags flags = Joining();
  EXPECT_EQ(ResolveWorkerFlags(flags, Environment({}))->neuron_rows, model::NeuronRows::kAsIs);
  flags.gpu_rows = "fp8-e5m2";
  EXPECT_EQ(ResolveWorkerFlags(flags, Environment({}))->neuron_rows, model::NeuronRows::kFp8E5M2);
  flags.gpu_rows = "fp8";
  EXPECT_EQ(ResolveWorkerFlags(flags, Environment({})).status().message(),
            "--gpu-rows: rows of neurons are none of as-is, fp8-e4m3 and fp8-e5m2: fp8");
}

TEST(WorkerFlags, TheDeviceIsParsedAndTheOneOfTheRankUnlessNamed) {
  using Kind = kernels::DeviceChoice::Kind;
  WorkerFlags flags = Joining();
  EXPECT_EQ(ResolveWorkerFlags(flags, Environment({}))->device.kind, Kind::kAuto);
  flags.device = "cuda";
  const auto third = Environment({{"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
                                  {"OMPI_COMM_WORLD_RANK", "6"},
                                  {"OMPI_COMM_WORLD_LOCAL_RANK", "2"}});
  EXPECT_EQ(ResolveWorkerFlags(flags, third)->device.ordinal, 2);
  EXPECT_TRUE(ResolveWorkerFlags(flags, third)->claims_device);
  EXPECT_FALSE(ResolveWorkerFlags(flags, Environment({}))->claims_device) << "it is alone";
  flags.device = "cuda:1";
  EXPECT_EQ(ResolveWorkerFlags(flags, third)->device.ordinal, 1);
  EXPECT_FALSE(ResolveWorkerFlags(flags, third)->claims_device);
  for (const char* wrong : {"gpu", "cuda:", "cuda:-1", "cuda:1x", "cuda:99999", ""}) {
    flags.device = wrong;
    const Status status = ResolveWorkerFlags(flags, Environment({})).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << wrong;
    EXPECT_NE(status.message().find("--device"), std::string::npos) << status;
  }
}

TEST(WorkerFlags, GpuMemoryIsParsedAndNamed) {
  WorkerFlags flags = Joining();
  EXPECT_EQ(ResolveWorkerFlags(flags, Environment({}))->gpu_memory_bytes, 0u);
  flags.gpu_memory = "20G";
  EXPECT_EQ(ResolveWorkerFlags(flags, Environment({}))->gpu_memory_bytes, 20ull << 30);
  flags.gpu_memory = "lots";
  EXPECT_NE(ResolveWorkerFlags(flags, Environment({})).status().message().find("--gpu-memory"),
            std::string::npos);
}

TEST(WorkerFlags, WhoWasToldNothingOffersItsHost) {
  EXPECT_TRUE(ResolveWorkerFlags(Joining(), Environment({}))->offers_host);
  // A launcher has said how many share it, and so each has its part already.
  EXPECT_FALSE(ResolveWorkerFlags(
                   Joining(), Environment({{"SLURM_PROCID", "1"}, {"SLURM_NTASKS_PER_NODE", "2"}}))
                   ->offers_host);
}

TEST(WorkerFlags, MemoryIsParsedAndNamed) {
  WorkerFlags flags = Joining();
  flags.memory = "1.5G";
  EXPECT_EQ(ResolveWorkerFlags(flags, Environment({}))->memory_bytes, 3ull << 29);
  EXPECT_FALSE(ResolveWorkerFlags(flags, Environment({}))->offers_host);
  flags.memory = "lots";
  EXPECT_NE(ResolveWorkerFlags(flags, Environment({})).status().message().find("--memory"),
            std::string::npos);
}

TEST(WorkerFlags, WorkersOfOneHostShareItsCores) {
  WorkerFlags flags = Joining();
  flags.under_mpi = true;
  const int alone = ResolveWorkerFlags(flags, Environment({}))->n_threads;
  const int shared = ResolveWorkerFlags(flags, Environment({{"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
                                                            {"OMPI_COMM_WORLD_RANK", "1"},
                                                            {"OMPI_COMM_WORLD_LOCAL_RANK", "1"}}))
                         ->n_threads;
  EXPECT_EQ(shared, std::max(1, alone / 3));  // the fourth process is the coordinator
  flags.n_threads = 5;
  EXPECT_EQ(ResolveWorkerFlags(flags, Environment({}))->n_threads, 5);
}

TEST(WorkerFlags, RanksBeyondTheCoresOfAHostMeasureInTurns) {
  WorkerFlags flags = Joining();
  flags.under_mpi = true;
  flags.n_threads = AvailableCores();  // one computes at a time
  const auto turn_of = [&](const std::string& rank) {
    return ResolveWorkerFlags(flags, Environment({{"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
                                                  {"OMPI_COMM_WORLD_RANK", rank},
                                                  {"OMPI_COMM_WORLD_LOCAL_RANK", rank}}))
        ->measuring_turn;
  };
  EXPECT_EQ(turn_of("1"), 0);  // rank 0 is the coordinator
  EXPECT_EQ(turn_of("2"), 1);
  EXPECT_EQ(turn_of("3"), 2);
  flags.n_threads = 0;  // the cores shared out
  EXPECT_EQ(turn_of("3"), AvailableCores() < 3 ? 2 / AvailableCores() : 0);
  flags.under_mpi = false;
  EXPECT_EQ(turn_of("3"), 0);
}

TEST(WorkerFlags, CpusSetTheThreads) {
  WorkerFlags flags = Joining();
  const std::vector<int> allowed = AllowedCpus();
  flags.cpus = CpuListText(allowed);
  const auto options = ResolveWorkerFlags(flags, Environment({}));
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->cpus, allowed);
  EXPECT_EQ(options->n_threads, static_cast<int>(allowed.size()));
  flags.n_threads = static_cast<int>(allowed.size()) + 1;
  EXPECT_THAT(ResolveWorkerFlags(flags, Environment({})).status().message(),
              HasSubstr("more threads than CPUs"));
  flags.cpus = "900000";
  EXPECT_THAT(ResolveWorkerFlags(flags, Environment({})).status().message(),
              HasSubstr("--cpus: CPU is not there"));
}

TEST(WorkerFlags, WorkersOfOneHostShareTheListOfCpus) {
  const std::vector<int> allowed = AllowedCpus();
  const std::string n_allowed = std::to_string(allowed.size());
  WorkerFlags flags = Joining();
  flags.cpus = CpuListText(allowed);
  const auto rank_of = [&](const std::string& rank, const std::string& size) {
    return ResolveWorkerFlags(flags, Environment({{"OMPI_COMM_WORLD_LOCAL_SIZE", size},
                                                  {"OMPI_COMM_WORLD_RANK", rank},
                                                  {"OMPI_COMM_WORLD_LOCAL_RANK", rank}}));
  };
  const std::string last = std::to_string(allowed.size() - 1);
  EXPECT_THAT(rank_of("0", n_allowed)->cpus, ElementsAre(allowed.front()));
  EXPECT_THAT(rank_of(last, n_allowed)->cpus, ElementsAre(allowed.back()));
  EXPECT_THAT(rank_of("0", std::to_string(allowed.size() + 1)).status().message(),
              HasSubstr("fewer CPUs than this host has workers"));
  // Rank 0 of a service is the coordinator, which takes none.
  flags.under_mpi = true;
  EXPECT_THAT(rank_of("1", std::to_string(allowed.size() + 1))->cpus, ElementsAre(allowed.front()));
}

// How many workers share the host, told by the memory each offers.
int NumSharing(const WorkerFlags& flags, std::map<std::string, std::string> variables) {
  const auto options = ResolveWorkerFlags(flags, Environment(std::move(variables)));
  const double all = 0.9 * static_cast<double>(AvailableMemoryBytes());
  return static_cast<int>(all / static_cast<double>(options->memory_bytes) + 0.5);
}

TEST(WorkerFlags, ATenthOfTheMemoryStaysFree) { EXPECT_EQ(NumSharing(Joining(), {}), 1); }

TEST(WorkerFlags, EveryLauncherTellsWhoSharesTheHost) {
  WorkerFlags flags;
  flags.under_mpi = true;
  // Not the coordinator's host: ranks are counted otherwise than here.
  EXPECT_EQ(
      NumSharing(flags, {{"MPI_LOCALNRANKS", "4"}, {"PMI_RANK", "6"}, {"MPI_LOCALRANKID", "2"}}),
      4);
  EXPECT_EQ(
      NumSharing(flags, {{"PMI_LOCAL_SIZE", "4"}, {"PMI_RANK", "2"}, {"PMI_LOCAL_RANK", "2"}}), 3);
  EXPECT_EQ(
      NumSharing(flags,
                 {{"SLURM_PROCID", "1"}, {"SLURM_LOCALID", "1"}, {"SLURM_NTASKS_PER_NODE", "5"}}),
      4);
}

TEST(WorkerFlags, SlurmsTasksPerNodeAreAList) {
  const auto sharing = [](const char* node, const char* list) {
    return NumSharing(
        Joining(), {{"SLURM_PROCID", "9"}, {"SLURM_NODEID", node}, {"SLURM_TASKS_PER_NODE", list}});
  };
  EXPECT_EQ(sharing("0", "2(x3),1"), 2);
  EXPECT_EQ(sharing("2", "2(x3),4"), 2);
  EXPECT_EQ(sharing("3", "2(x3),4"), 4);
  EXPECT_EQ(sharing("1", "3"), 3) << "a list that is too short";
  EXPECT_EQ(sharing("0", ""), 1);
  EXPECT_EQ(sharing("0", "(x"), 1) << "nonsense";
}

TEST(WorkerFlags, AWorkerThatTheCoordinatorStartedSharesWithNoTask) {
  WorkerFlags flags = Joining();
  flags.die_with_parent = true;
  EXPECT_EQ(NumSharing(flags, {{"SLURM_PROCID", "0"}, {"SLURM_TASKS_PER_NODE", "4"}}), 1);
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
