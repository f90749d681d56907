// thermocline-bench-ops: micro-benchmarks of the operators, one per weight type, against the
// bandwidth of the same cores.
//
//   thermocline-bench-ops --threads=2 --benchmark_filter=MatMul/F16 --benchmark_format=csv
#include <benchmark/benchmark.h>

#include <charconv>
#include <cstdio>
#include <string_view>

#include "tools/bench/bench_box.h"
#include "tools/machine/machine_info.h"

namespace {

// The one flag of ours, taken out of the arguments: --threads=N. -1 when it is no number.
int TakeThreads(int* argc, char** argv) {
  constexpr std::string_view kFlag = "--threads=";
  int n_threads = 1, n_kept = 1;
  for (int i = 1; i < *argc; ++i) {
    const std::string_view argument = argv[i];
    if (!argument.starts_with(kFlag)) {
      argv[n_kept++] = argv[i];
      continue;
    }
    const std::string_view value = argument.substr(kFlag.size());
    const char* const end = value.data() + value.size();
    const auto [parsed, error] = std::from_chars(value.data(), end, n_threads);
    if (error != std::errc() || parsed != end) n_threads = -1;
  }
  *argc = n_kept;
  return n_threads;
}

void PrintHelp() {
  std::printf(
      "thermocline-bench-ops: micro-benchmarks of the operators, one per weight type, against the\n"
      "bandwidth of the same cores.\n\n"
      "thermocline-bench-ops\n"
      "          [--threads=<compute threads, 1>]\n");
  // The rest is the library's, whose list begins with the name of the program.
  benchmark::PrintDefaultHelp();
}

}  // namespace

int main(int argc, char** argv) {
  using namespace thermocline::tools;
  const int n_threads = TakeThreads(&argc, argv);
  benchmark::Initialize(&argc, argv, PrintHelp);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  auto box = BenchBox::Create(n_threads);
  if (!box.ok()) {
    std::fprintf(stderr, "thermocline-bench-ops: %s\n", box.status().message().c_str());
    return 2;
  }
  benchmark::AddCustomContext("build", BuildName());
  benchmark::AddCustomContext("cpu", CpuName());
  benchmark::AddCustomContext("device", (*box)->device().name());
  RegisterMatMul(box->get());
  RegisterFfn(box->get());
  RegisterAttention(box->get());
  RegisterSmallOps(box->get());
  RegisterSampler(box->get());
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
