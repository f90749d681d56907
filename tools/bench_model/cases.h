// What a benchmark runs: the combinations of its lists, and which of them share a loaded model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "tools/bench_model/flags.h"

namespace thermocline::tools {

// What needs a stage of its own.
struct BenchSetup {
  size_t i_model = 0;  // of BenchOptions::model_paths
  int n_threads = 1;
  std::string ffn = "dense";  // as --ffn takes it
  DType kv_dtype = DType::kF32;
};

// One line of the report: a prompt read (n_gen = 0), or `batch` sequences decoding n_gen tokens
// each (n_prompt = 0), with `depth` tokens of each in the context already.
struct BenchCase {
  size_t i_setup = 0;
  int64_t n_prompt = 0;
  int64_t n_gen = 0;
  int64_t batch = 1;
  int64_t depth = 0;

  bool is_prefill() const { return n_prompt > 0; }
  // Tokens whose time is taken.
  int64_t n_tokens() const { return is_prefill() ? n_prompt : batch * n_gen; }
  // Of one sequence at the end.
  int64_t n_positions() const { return depth + n_prompt + n_gen; }
};

// "pp64", "tg64", "tg64 @ d512" as llama-bench calls them.
std::string TestName(const BenchCase& test);

struct BenchCases {
  std::vector<BenchSetup> setups;
  std::vector<BenchCase> cases;  // those of a setup follow one another
};

// All combinations, models outermost. Prompts are read by one sequence, whatever the batch.
BenchCases CombineCases(const BenchOptions& options);

// What the cases of one setup need together.
struct StageNeeds {
  int64_t n_pages = 0;
  int max_step_tokens = 1;
};
StageNeeds NeedsOf(const BenchCases& cases, size_t i_setup, int batch_size, int page_tokens);

// Neighbours that fit `budget_bytes` together, each group as long as it can be; what does not fit
// alone is a group of one. So the cases that run in turns are as many as memory allows.
std::vector<std::vector<size_t>> GroupByMemory(const std::vector<uint64_t>& needs_bytes,
                                               uint64_t budget_bytes);

}  // namespace thermocline::tools
