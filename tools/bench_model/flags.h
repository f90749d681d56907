// The settings of `thermocline bench` as people give them, and checked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"

namespace thermocline::tools {

enum class ReportFormat : uint8_t { kMarkdown, kJson, kCsv };

// Lists are "1,2,4"; "" for threads means all of `cpus`, or all cores.
struct BenchFlags {
  std::string models;
  std::string prompts = "64";
  std::string gens = "64";
  std::string batches = "1";
  std::string depths = "0";
  std::string threads;
  std::string cpus;                  // "0-3,8"; "" = wherever the system puts the threads
  std::string device = "cpu";        // see kernels::ParseDeviceChoice
  std::string isa = "auto";          // instruction set of the CPU's kernels
  std::string cuda_graphs = "auto";  // see worker::ParseCudaGraphs
  std::string ffn = "dense";
  std::string predictor_path;          // "": M.predictor.gguf beside M.gguf, if there is one
  std::optional<double> allowed_loss;  // none: what that file allows
  std::string cache_types = "f32";
  int repetitions = 5;
  int batch_size = 512;
  uint64_t seed = 1;
  std::string format = "md";
  bool per_op = false;       // a table of operators for each case
  std::string probe_memory;  // "": chosen by the machine's caches and memory
  std::string against;
  std::string against_pattern;
  int against_timeout_s = 600;
  std::string log_level = "warn";
};

struct BenchOptions {
  std::vector<std::string> model_paths;
  std::vector<int64_t> prompts;  // tokens read; 0 was left out
  std::vector<int64_t> gens;     // tokens decoded per sequence
  std::vector<int64_t> batches;  // sequences decoded together
  std::vector<int64_t> depths;   // tokens before them in the context
  std::vector<int64_t> threads;
  std::vector<int> cpus;         // thread i stays on the i-th; none: not pinned
  std::vector<std::string> ffn;  // a mode, or "auto"
  std::vector<DType> cache_types;
  uint64_t probe_bytes = 0;  // 0: chosen by the machine
  bool uses_graphs = true;   // of a GPU
  ReportFormat format = ReportFormat::kMarkdown;
};

// kInvalidArgument names the flag.
Result<BenchOptions> ParseBenchFlags(const BenchFlags& flags);

inline constexpr int64_t kMaxBenchTokens = 1 << 20;  // of a prompt, a completion, or before them
inline constexpr int64_t kMaxBenchBatch = 4096;      // sequences at once
inline constexpr int kMaxBatchSize = 8192;  // rows of scratch: 8192 * 16384 floats is 512 MiB
inline constexpr int kMaxRepetitions = 10'000;

}  // namespace thermocline::tools
