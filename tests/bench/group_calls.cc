// What the calls of a group cost a host, and how soon they are done: x out and the sum back, as in
// a layer whose neurons several cards of this host share.
//
//   group_calls [CARDS [N_EMBD [LIBRARY]]]      default: 2 8192, NVIDIA's driver and NCCL
//
// Members are threads of this process, each with a card. Calls of a step follow one another, as a
// host runs ahead of its cards; the time of a call is until it returns, that of a layer until all
// is done. LIBRARY stands for both libraries, in tests.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "comm/group.h"
#include "tests/bench/median.h"

namespace thermocline::bench {
namespace {

constexpr int kWarmUpSteps = 4, kSteps = 32;
constexpr int kLayers = 32;  // of a step
constexpr Duration kPatience = std::chrono::seconds(60);

struct Options {
  int n_cards = 2;
  size_t n_embd = 8192;
  std::string driver = comm::kCudaLibrary;
  std::string nccl = comm::kNcclLibrary;
};

// Medians over steps, in seconds for each call and layer.
struct Times {
  double broadcast_s = 0, sum_s = 0, layer_s = 0;
};

// One thread's place in the group.
class Member {
 public:
  Member(const comm::NcclLibrary& nccl, const Options& options) : nccl_(nccl), options_(options) {}

  Status Join(const std::string& id, int rank) {
    TC_ASSIGN_OR_RETURN(gpu_, comm::Gpu::Open(rank, options_.driver));
    TC_ASSIGN_OR_RETURN(stream_, gpu_->MakeStream());
    TC_ASSIGN_OR_RETURN(memory_, gpu_->Allocate(options_.n_embd * sizeof(double)));
    const comm::NcclPlace place{.id = id, .rank = rank, .n_ranks = options_.n_cards};
    TC_ASSIGN_OR_RETURN(group_, comm::MakeNcclGroup(nccl_, *gpu_, place, Soon()));
    return OkStatus();
  }

  Result<Times> Measure() {
    std::vector<double> broadcasts, sums, layers;
    for (int i = 0; i < kWarmUpSteps + kSteps; ++i) {
      Times times;
      TC_RETURN_IF_ERROR(Step(&times));
      if (i < kWarmUpSteps) continue;
      broadcasts.push_back(times.broadcast_s / kLayers);
      sums.push_back(times.sum_s / kLayers);
      layers.push_back(times.layer_s / kLayers);
    }
    return Times{MedianOf(broadcasts), MedianOf(sums), MedianOf(layers)};
  }

 private:
  TimePoint Soon() const { return clock_.Now() + kPatience; }

  Status Step(Times* times) {
    auto* const values = static_cast<double*>(memory_.get());
    const std::span<double> sum(values, options_.n_embd);
    // x is of F32.
    const std::span<std::byte> x(reinterpret_cast<std::byte*>(values),
                                 options_.n_embd * sizeof(float));
    const TimePoint begin = clock_.Now();
    for (int layer = 0; layer < kLayers; ++layer) {
      const TimePoint before = clock_.Now();
      TC_RETURN_IF_ERROR(group_->Broadcast(x, stream_.get(), Soon()));
      const TimePoint between = clock_.Now();
      TC_RETURN_IF_ERROR(group_->Sum(sum, stream_.get(), Soon()));
      times->broadcast_s += Seconds(between - before);
      times->sum_s += Seconds(clock_.Now() - between);
    }
    TC_RETURN_IF_ERROR(group_->Await(stream_.get(), Soon()));
    times->layer_s = Seconds(clock_.Now() - begin);
    return OkStatus();
  }

  const comm::NcclLibrary& nccl_;
  const Options& options_;
  const SteadyClock clock_{};
  std::unique_ptr<comm::Gpu> gpu_;
  comm::Gpu::Stream stream_;
  comm::Gpu::Memory memory_;
  std::unique_ptr<comm::Group> group_;
};

Status Run(const Options& options) {
  TC_ASSIGN_OR_RETURN(const auto nccl, comm::NcclLibrary::Load({.library = options.nccl}));
  std::string id;
  {
    TC_ASSIGN_OR_RETURN(const auto first, comm::Gpu::Open(0, options.driver));
    TC_RETURN_IF_ERROR(first->Use());
    TC_ASSIGN_OR_RETURN(id, nccl->MakeId());
  }
  std::vector<Result<Times>> outcomes(static_cast<size_t>(options.n_cards), Times{});
  std::vector<std::thread> members;
  for (int rank = 0; rank < options.n_cards; ++rank) {
    members.emplace_back([&, rank] {
      Member member(*nccl, options);
      const Status joined = member.Join(id, rank);
      outcomes[static_cast<size_t>(rank)] = joined.ok() ? member.Measure() : Result<Times>(joined);
    });
  }
  for (std::thread& member : members) member.join();
  std::printf("NCCL %s, %d cards, n_embd %zu\n\n", nccl->version().c_str(), options.n_cards,
              options.n_embd);
  std::printf(
      "| member | broadcast returns | sum returns | both are done |\n|---|---:|---:|---:|\n");
  for (size_t rank = 0; rank < outcomes.size(); ++rank) {
    TC_ASSIGN_OR_RETURN(const Times times, outcomes[rank]);
    std::printf("| %zu | %.1f us | %.1f us | %.1f us |\n", rank, times.broadcast_s * 1e6,
                times.sum_s * 1e6, times.layer_s * 1e6);
  }
  return OkStatus();
}

}  // namespace
}  // namespace thermocline::bench

int main(int argc, char** argv) {
  thermocline::bench::Options options;
  if (argc > 1) options.n_cards = std::atoi(argv[1]);
  if (argc > 2) options.n_embd = static_cast<size_t>(std::atoll(argv[2]));
  if (argc > 3) options.driver = options.nccl = argv[3];
  if (options.n_cards < 1 || options.n_cards > 64 || options.n_embd < 1) {
    std::fprintf(stderr, "group_calls [CARDS [N_EMBD [LIBRARY]]]\n");
    return 2;
  }
  const auto status = thermocline::bench::Run(options);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
