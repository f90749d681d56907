// A model cut into stages that run one after another in this process, for comparing layouts.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "proto/messages.h"
#include "tests/support/temp_file.h"
#include "worker/assignment.h"
#include "worker/logits_sink.h"
#include "worker/stage.h"

namespace thermocline::testing {

// Keeps every row of logits by sequence and position.
class LogitsRecorder final : public worker::LogitsSink {
 public:
  void OnLogits(SeqId seq, int64_t position, std::span<const float> logits) override {
    rows[{seq, position}].assign(logits.begin(), logits.end());
  }
  std::map<std::pair<SeqId, int64_t>, std::vector<float>> rows;
};

struct ChainOptions {
  std::vector<int> cuts;  // layer numbers where a new stage begins; empty: one stage
  worker::FfnPlan ffn;
  std::string sparsity_path;  // "": what the model file has
  int n_threads = 1;
  bool reference_device = false;
  // Instead of the CPU or the reference.
  std::function<std::unique_ptr<kernels::Device>()> make_device;
  DType kv_dtype = DType::kF32;
  int64_t n_pages = 64;
  int max_step_tokens = 64;
  worker::OpObserver* observer = nullptr;
  uint64_t graph_bytes = 0;    // of each stage, for graphs of steps
  bool records_logits = true;  // else Logits has none, and a stage need not show all of them
};

// Fails the test when the model cannot be loaded.
class StageChain {
 public:
  StageChain(const std::string& path, const ChainOptions& options);

  // Runs one batch through all stages.
  Status Run(proto::StepBatch batch);
  // Feeds `tokens` as one sequence in chunks of `chunk` and returns their logits.
  std::vector<std::vector<float>> Logits(SeqId seq, const std::vector<int32_t>& tokens,
                                         size_t chunk);
  // Greedy continuation.
  std::vector<int32_t> Generate(SeqId seq, const std::vector<int32_t>& prompt, int n);
  // The same as a sequence asks for.
  std::vector<int32_t> Generate(SeqId seq, const std::vector<int32_t>& prompt, int n,
                                const proto::SequenceStart& start);

  const model::ModelConfig& config() const { return model_.config; }
  const worker::LoadedModel& model() const { return model_; }
  // What all stages have read so far.
  const kernels::Traffic& traffic() const { return device_->ops().traffic(); }
  kernels::Device& device() { return *device_; }
  worker::Stage& stage(size_t i) { return *stages_[i]; }
  worker::Stage& last() { return *stages_.back(); }
  LogitsRecorder& logits() { return logits_; }

 private:
  std::unique_ptr<kernels::Device> device_;
  worker::LoadedModel model_;
  LogitsRecorder logits_;
  std::vector<std::unique_ptr<worker::Stage>> stages_;
};

// By position.
using Logits = std::vector<std::vector<float>>;
// The norm of the difference, relative to that of `wanted`.
double Difference(const Logits& got, const Logits& wanted);

// A step with one entry.
proto::StepBatch OneEntry(SeqId seq, int64_t first_position, std::vector<int32_t> tokens,
                          bool sample, int n_prompt);

}  // namespace thermocline::testing
