#include "tools/bench_model/case_runner.h"

#include <algorithm>
#include <utility>

#include "base/rng.h"

namespace thermocline::tools {
namespace {

// A stream of random numbers of its own for each sequence of each repetition.
uint64_t StreamOf(uint64_t seed, int repetition, uint64_t i_sequence) {
  const auto words =
      Philox4x32({static_cast<uint32_t>(repetition), static_cast<uint32_t>(i_sequence), 0, 1},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return (static_cast<uint64_t>(words[0]) << 32) | words[1];
}

}  // namespace

int32_t CaseRunner::RandomToken(const Sequence& sequence, int64_t position) const {
  return static_cast<int32_t>(UniformAt(sequence.seed, static_cast<uint64_t>(position)) *
                              options_.n_vocab);
}

std::optional<proto::SequenceStart> CaseRunner::StartOf(const Sequence& sequence,
                                                        int64_t n_prompt) const {
  if (sequence.n_positions > 0) return std::nullopt;
  model::SamplingParams params;
  params.temperature = 1;
  params.seed = sequence.seed;
  return proto::SequenceStart{params, static_cast<int32_t>(n_prompt)};
}

void CaseRunner::Begin(const BenchCase& test, int repetition) {
  sequences_.clear();
  for (int64_t i = 0; i < test.batch; ++i) {
    Sequence sequence{SeqId{next_seq_++}};
    sequence.seed = StreamOf(options_.seed, repetition, static_cast<uint64_t>(i));
    sequence.next = RandomToken(sequence, 0);
    sequences_.push_back(sequence);
  }
}

// Appends random tokens, some per step; the last one's logits give the next token.
Status CaseRunner::Read(Sequence* sequence, int64_t n_tokens) {
  const int64_t end = sequence->n_positions + n_tokens;
  while (sequence->n_positions < end) {
    const int64_t n = std::min<int64_t>(options_.batch_size, end - sequence->n_positions);
    proto::StepEntry entry{sequence->id, sequence->n_positions, {}, false, std::nullopt};
    entry.start = StartOf(*sequence, end);
    for (int64_t i = 0; i < n; ++i) {
      entry.tokens.push_back(RandomToken(*sequence, sequence->n_positions + i));
    }
    entry.sample = sequence->n_positions + n == end;
    proto::StepBatch batch;
    batch.step = StepId{next_step_++};
    batch.entries.push_back(std::move(entry));
    TC_RETURN_IF_ERROR(stage_->Run(batch));
    sequence->n_positions += n;
  }
  sequence->next = stage_->results().front().sampled->token;
  return OkStatus();
}

Status CaseRunner::DecodeStep() {
  proto::StepBatch batch;
  batch.step = StepId{next_step_++};
  for (const Sequence& sequence : sequences_) {
    batch.entries.push_back(
        {sequence.id, sequence.n_positions, {sequence.next}, true, StartOf(sequence, 1)});
  }
  TC_RETURN_IF_ERROR(stage_->Run(batch));
  for (size_t i = 0; i < sequences_.size(); ++i) {
    ++sequences_[i].n_positions;
    sequences_[i].next = stage_->results()[i].sampled->token;
  }
  return OkStatus();
}

Status CaseRunner::Release() {
  proto::StepBatch batch;
  batch.step = StepId{next_step_++};
  for (const Sequence& sequence : sequences_) batch.released.push_back(sequence.id);
  return stage_->Run(batch);
}

Result<CaseSample> CaseRunner::Run(const BenchCase& test, int repetition) {
  Begin(test, repetition);
  if (test.depth > 0) {
    for (Sequence& sequence : sequences_) TC_RETURN_IF_ERROR(Read(&sequence, test.depth));
  }
  if (options_.op_times != nullptr) options_.op_times->Take();
  const kernels::Traffic before = stage_->traffic();
  const uint64_t first_step = next_step_;
  const int64_t replays_before = stage_->n_replays();
  const TimePoint begin = clock_.Now();
  if (test.is_prefill()) {
    TC_RETURN_IF_ERROR(Read(&sequences_.front(), test.n_prompt));
  } else {
    for (int64_t i = 0; i < test.n_gen; ++i) TC_RETURN_IF_ERROR(DecodeStep());
  }
  CaseSample sample;
  sample.seconds = Seconds(clock_.Now() - begin);
  sample.traffic = stage_->traffic() - before;
  sample.n_steps = static_cast<int64_t>(next_step_ - first_step);
  sample.n_replays = stage_->n_replays() - replays_before;
  if (options_.op_times != nullptr) sample.ops = options_.op_times->Take();
  TC_RETURN_IF_ERROR(Release());
  return sample;
}

}  // namespace thermocline::tools
