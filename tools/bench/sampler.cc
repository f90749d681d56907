// Choosing a token from a row of logits.
#include "model/sampler.h"

#include "base/str.h"
#include "tools/bench/bench_box.h"

namespace thermocline::tools {
namespace {

constexpr int64_t kVocab = 32'000;

Status Run(BenchBox& box, benchmark::State& state, const model::SamplingParams& params) {
  FloatMatrix logits(1, kVocab, 1);
  for (float& value : logits.values()) value *= 8;  // a few likely tokens, many unlikely ones
  model::Sampler sampler;
  uint64_t position = 0;
  constexpr double kLogitBytes = 4.0 * kVocab;
  box.Measure(state, {0, kLogitBytes}, [&](kernels::Ops&) {
    benchmark::DoNotOptimize(sampler.Sample(logits.values(), params, {}, position++));
  });
  return OkStatus();
}

}  // namespace

void RegisterSampler(BenchBox* box) {
  const auto add = [&](const char* name, const model::SamplingParams& params) {
    box->Register(Str("Sampler/", name, "/vocab:", kVocab),
                  [=](BenchBox& b, benchmark::State& state) { return Run(b, state, params); });
  };
  add("greedy", {.temperature = 0});
  add("temperature", {.temperature = 1});
  add("top_k", {.temperature = 1, .top_k = 40});
  add("top_p", {.temperature = 1, .top_p = 0.9f});
}

}  // namespace thermocline::tools
