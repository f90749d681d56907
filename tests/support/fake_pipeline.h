// Stages without a model: they keep the tokens instead of keys and values, check that every step is
// one that real stages could run, and choose tokens by a hash of the sequence so far.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "proto/messages.h"

namespace thermocline::testing {

struct FakePipelineOptions {
  int n_vocab = 100;
  int page_tokens = 16;
  int64_t n_pages = 64;
  int n_ctx = 256;
  int max_step_tokens = 512;
};

class FakePipeline {
 public:
  explicit FakePipeline(const FakePipelineOptions& options) : options_(options) {}

  // Runs a step as stages would: releases first, then the rows. Broken rules are appended to
  // violations().
  proto::StepResult Run(const proto::StepBatch& step);
  // The stages of another plan, which know no sequence; steps of another epoch are wrong from now
  // on.
  void StartEpoch(Epoch epoch);
  // The token that follows `tokens`: what a greedy model would be.
  static int32_t NextToken(const std::vector<int32_t>& tokens, int n_vocab);

  const std::vector<std::string>& violations() const { return violations_; }
  int64_t pages_used() const;
  size_t n_sequences() const { return kv_.size(); }

 private:
  struct Kv {
    proto::SequenceStart start;
    std::vector<int32_t> tokens;
  };
  void Violation(const proto::StepBatch& step, const std::string& what);
  Kv* FindKv(const proto::StepBatch& step, const proto::StepEntry& entry);
  proto::StepResultEntry RunEntry(const proto::StepBatch& step, const proto::StepEntry& entry);

  FakePipelineOptions options_;
  std::map<SeqId, Kv> kv_;
  Epoch epoch_{1};
  uint64_t last_step_ = 0;
  std::vector<std::string> violations_;
};

}  // namespace thermocline::testing
