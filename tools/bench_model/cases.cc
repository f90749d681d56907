#include "tools/bench_model/cases.h"

#include <algorithm>

#include "base/str.h"
#include "tools/local/local_stage.h"

namespace thermocline::tools {
namespace {

void AppendCases(const BenchOptions& options, size_t i_setup, std::vector<BenchCase>* cases) {
  for (const int64_t depth : options.depths) {
    for (const int64_t n_prompt : options.prompts) {
      cases->push_back({i_setup, n_prompt, 0, 1, depth});
    }
    for (const int64_t n_gen : options.gens) {
      for (const int64_t batch : options.batches) {
        cases->push_back({i_setup, 0, n_gen, batch, depth});
      }
    }
  }
}

}  // namespace

std::string TestName(const BenchCase& test) {
  const std::string name = test.is_prefill() ? Str("pp", test.n_prompt) : Str("tg", test.n_gen);
  return test.depth == 0 ? name : Str(name, " @ d", test.depth);
}

BenchCases CombineCases(const BenchOptions& options) {
  BenchCases all;
  for (size_t i_model = 0; i_model < options.model_paths.size(); ++i_model) {
    for (const int64_t n_threads : options.threads) {
      for (const std::string& ffn : options.ffn) {
        for (const DType kv_dtype : options.cache_types) {
          all.setups.push_back({i_model, static_cast<int>(n_threads), ffn, kv_dtype});
          AppendCases(options, all.setups.size() - 1, &all.cases);
        }
      }
    }
  }
  return all;
}

StageNeeds NeedsOf(const BenchCases& cases, size_t i_setup, int batch_size, int page_tokens) {
  StageNeeds needs;
  int64_t longest_prompt = 1, widest_batch = 1;
  for (const BenchCase& test : cases.cases) {
    if (test.i_setup != i_setup) continue;
    needs.n_pages = std::max(needs.n_pages, PagesFor(test.batch, test.n_positions(), page_tokens));
    longest_prompt = std::max({longest_prompt, test.n_prompt, test.depth});
    widest_batch = std::max(widest_batch, test.batch);
  }
  needs.max_step_tokens =
      static_cast<int>(std::max(widest_batch, std::min<int64_t>(longest_prompt, batch_size)));
  return needs;
}

std::vector<std::vector<size_t>> GroupByMemory(const std::vector<uint64_t>& needs_bytes,
                                               uint64_t budget_bytes) {
  std::vector<std::vector<size_t>> groups;
  uint64_t left = 0;
  for (size_t i = 0; i < needs_bytes.size(); ++i) {
    if (groups.empty() || needs_bytes[i] > left) {
      groups.emplace_back();
      left = budget_bytes;
    }
    groups.back().push_back(i);
    left -= std::min(left, needs_bytes[i]);
  }
  return groups;
}

}  // namespace thermocline::tools
