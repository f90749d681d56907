// Runs one case of a benchmark on a loaded stage and takes its time.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "kernels/traffic.h"
#include "tools/bench_model/cases.h"
#include "tools/bench_model/op_times.h"
#include "tools/local/local_stage.h"

namespace thermocline::tools {

// One repetition.
struct CaseSample {
  double seconds = 0;
  kernels::Traffic traffic;  // of the timed part
  int64_t n_steps = 0;
  int64_t n_replays = 0;    // steps whose layers were one launch
  std::vector<OpTime> ops;  // empty unless they are watched
};

// Prompts are random ids and each next token is sampled at temperature 1 from the model's logits,
// so no token repeats by design; equal seeds and repetitions give equal tokens, whatever was run
// before. The stage outlives it. One thread.
class CaseRunner {
 public:
  struct Options {
    int n_vocab = 0;
    int batch_size = 512;  // prompt tokens per step
    uint64_t seed = 1;
    OpTimes* op_times = nullptr;  // the stage's observer, if it has one
  };
  CaseRunner(LocalStage* stage, const Options& options) : stage_(stage), options_(options) {}

  // Errors as worker::Stage::Run.
  Result<CaseSample> Run(const BenchCase& test, int repetition);

 private:
  struct Sequence {
    SeqId id;
    int64_t n_positions = 0;
    int32_t next = 0;  // the token at the next position
    uint64_t seed = 0;
  };

  void Begin(const BenchCase& test, int repetition);
  Status Read(Sequence* sequence, int64_t n_tokens);
  Status DecodeStep();
  Status Release();
  int32_t RandomToken(const Sequence& sequence, int64_t position) const;
  std::optional<proto::SequenceStart> StartOf(const Sequence& sequence, int64_t n_prompt) const;

  LocalStage* const stage_;
  const Options options_;
  SteadyClock clock_;
  std::vector<Sequence> sequences_;
  uint64_t next_seq_ = 0;
  uint64_t next_step_ = 0;
};

}  // namespace thermocline::tools
