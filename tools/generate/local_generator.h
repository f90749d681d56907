// Completes one prompt in this process: the whole model as a single stage, without a cluster.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "model/ffn_mode.h"
#include "model/sampling_params.h"
#include "tools/local/local_stage.h"
#include "worker/assignment.h"

namespace thermocline::tools {

struct LocalOptions {
  kernels::DeviceChoice device;
  int n_threads = 1;
  std::vector<int> cpus;  // thread i stays on the i-th, the calling one on the first
  model::FfnModes ffn = model::FfnMode::kDense;  // to choose from
  DType kv_dtype = DType::kF32;
  int prefill_chunk = 256;  // tokens per step while reading the prompt
  std::string logits_path;  // "" = none
  bool uses_graphs = true;  // of a GPU that can replay steps
};

struct Generation {
  std::vector<int32_t> generated;
  bool ended = false;  // by an end id or the caller; the last of `generated` did it
  double load_s = 0, prompt_s = 0, generate_s = 0;
  kernels::Traffic decode_traffic;  // of the steps after the prompt
};

// Owns model and stage. One thread.
class LocalGenerator {
 public:
  // Loads all layers with room for `n_positions` tokens.
  static Result<LocalGenerator> Load(worker::LoadedModel model, int64_t n_positions,
                                     const LocalOptions& options,
                                     const worker::LoadProgressFn& on_progress);

  // False ends the text with this token.
  using TokenFn = std::function<bool(int32_t token)>;
  // Generates up to `n_predict` tokens after `prompt`, ending early at one of `end_ids`. With a
  // logits file, the last generated token is evaluated too, so that every token has its row.
  Result<Generation> Run(const std::vector<int32_t>& prompt, int64_t n_predict,
                         const model::SamplingParams& params, const std::vector<int32_t>& end_ids,
                         const TokenFn& on_token);

  const model::ModelConfig& config() const { return model_->config; }
  const std::string& load_note() const { return stage_->load_note(); }
  std::string ffn_text() const { return stage_->ffn_text(); }
  std::string device_name() const { return stage_->device_name(); }

 private:
  LocalGenerator() = default;
  Result<std::optional<int32_t>> Step(std::vector<int32_t> tokens, int64_t first_position,
                                      bool sample, std::optional<proto::SequenceStart> start);
  Result<int32_t> ReadPrompt(const std::vector<int32_t>& prompt,
                             const model::SamplingParams& params);

  LocalOptions options_;
  std::unique_ptr<worker::LoadedModel> model_;
  std::unique_ptr<LocalStage> stage_;
  SteadyClock clock_;
  double load_s_ = 0;
  uint64_t next_step_ = 0;
};

}  // namespace thermocline::tools
