// The settings of `thermocline generate` as people give them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/sampling_params.h"
#include "tools/generate/local_generator.h"

namespace thermocline::tools {

struct GenerateFlags {
  std::string model_path;
  std::string prompt;
  std::string prompt_tokens;  // "1,2,3"
  std::string prompt_path;    // a file with the prompt; "-": standard input
  bool has_prompt = false;    // `prompt` was given
  std::vector<std::string> stops;
  int64_t n_predict = 128;           // -1: until the context is full or the text ends
  std::string n_ctx;                 // "" = the model's, no more than is needed
  int n_threads = 0;                 // 0 = one per CPU of `cpus`, or all cores
  std::string cpus;                  // "0-3,8"; "" = wherever the system puts the threads
  std::string device = "auto";       // see kernels::ParseDeviceChoice
  std::string isa = "auto";          // instruction set of the CPU's kernels
  std::string cuda_graphs = "auto";  // see worker::ParseCudaGraphs
  std::string ffn = "auto";
  std::string predictor_path;          // a sparsity file; "": beside the model, if there
  std::optional<double> allowed_loss;  // of perplexity, relative
  std::string kv_dtype = "f32";
  int prefill_chunk = 256;
  bool ignore_eos = false;
  bool json = false;
  std::string logits_path;
  std::string log_level = "warn";
  bool has_seed = false;
  model::SamplingParams sampling;
};

// Checks what can be checked without the model. kInvalidArgument names the flag.
Status CheckGenerateFlags(const GenerateFlags& flags);

// "1,2,3" -> ids; kInvalidArgument names the part that is not a number.
Result<std::vector<int32_t>> ParseTokenIds(const std::string& text);

}  // namespace thermocline::tools
