#include "tests/support/fake_pipeline.h"

#include <algorithm>

#include "base/str.h"

namespace thermocline::testing {

int32_t FakePipeline::NextToken(const std::vector<int32_t>& tokens, int n_vocab) {
  uint64_t hash = 1469598103934665603ull;  // FNV-1a
  for (const int32_t token : tokens) hash = (hash ^ uint64_t(token)) * 1099511628211ull;
  return static_cast<int32_t>((hash >> 20) % uint64_t(n_vocab));
}

void FakePipeline::Violation(const proto::StepBatch& step, const std::string& what) {
  violations_.push_back(Str("step ", step.step, ": ", what));
}

int64_t FakePipeline::pages_used() const {
  int64_t n = 0;
  for (const auto& [seq, kv] : kv_) {
    n += (int64_t(kv.tokens.size()) + options_.page_tokens - 1) / options_.page_tokens;
  }
  return n;
}

void FakePipeline::StartEpoch(Epoch epoch) {
  epoch_ = epoch;
  kv_.clear();
}

proto::StepResult FakePipeline::Run(const proto::StepBatch& step) {
  if (step.epoch != epoch_) Violation(step, Str("of epoch ", step.epoch, " in epoch ", epoch_));
  if (step.step.value <= last_step_) Violation(step, "told twice or out of order");
  last_step_ = step.step.value;
  if (step.n_tokens() > options_.max_step_tokens) Violation(step, "more rows than max_step_tokens");
  for (const SeqId seq : step.released) {
    if (kv_.erase(seq) == 0) Violation(step, Str("releases unknown sequence ", seq));
  }
  proto::StepResult result{.epoch = step.epoch, .step = step.step};
  for (const proto::StepEntry& entry : step.entries) {
    result.entries.push_back(RunEntry(step, entry));
  }
  if (pages_used() > options_.n_pages) Violation(step, Str("uses ", pages_used(), " pages"));
  return result;
}

FakePipeline::Kv* FakePipeline::FindKv(const proto::StepBatch& step,
                                       const proto::StepEntry& entry) {
  if (entry.start) {
    if (kv_.contains(entry.seq)) Violation(step, Str("starts sequence ", entry.seq, " twice"));
    if (entry.first_position != 0) Violation(step, Str("starts ", entry.seq, " in the middle"));
    kv_[entry.seq] = {.start = *entry.start, .tokens = {}};
  }
  const auto found = kv_.find(entry.seq);
  if (found == kv_.end()) {
    Violation(step, Str("continues unknown sequence ", entry.seq));
    return nullptr;
  }
  return &found->second;
}

proto::StepResultEntry FakePipeline::RunEntry(const proto::StepBatch& step,
                                              const proto::StepEntry& entry) {
  proto::StepResultEntry result{.seq = entry.seq};
  Kv* kv = FindKv(step, entry);
  if (kv == nullptr) return result;
  const bool scored = kv->start.params.n_prompt_logprobs >= 0;
  const int64_t have = int64_t(kv->tokens.size());
  const int64_t n_prompt = kv->start.n_prompt;
  if (entry.first_position != have) {
    Violation(step, Str("sequence ", entry.seq, " goes on at ", entry.first_position, " after ",
                        have, " tokens"));
  }
  kv->tokens.insert(kv->tokens.end(), entry.tokens.begin(), entry.tokens.end());
  if (int64_t(kv->tokens.size()) > options_.n_ctx) Violation(step, "sequence over n_ctx");
  for (int64_t p = std::max<int64_t>(have, 1); scored && p < n_prompt; ++p) {
    if (p >= int64_t(kv->tokens.size())) break;
    result.prompt_scores.push_back({.token = kv->tokens[size_t(p)], .logprob = -1});
  }
  if (entry.sample) {
    result.sampled = model::SampledToken{.token = NextToken(kv->tokens, options_.n_vocab)};
  }
  return result;
}

}  // namespace thermocline::testing
