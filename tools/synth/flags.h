// The settings of `thermocline synth` as people give them.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "tools/synth/synth_options.h"

namespace thermocline::tools {

struct SynthFlags {
  std::string output;
  std::string shape;  // "n_embd=2048,n_ff=8192"
  std::string arch;   // "" = arcee, with --pwri llama
  std::string dtype = "f16";
  bool powerinfer = false;
  int64_t n_predictor = 512;
  std::string predictor_dtype;  // "" = as dtype
  double density = 0.10;
  double hot_frac = 0.26;
  double hot_share = 0.80;
  uint64_t seed = 1;
  bool check = false;
  int64_t check_tokens = 128;
  int n_threads = 0;  // 0 = all cores
};

// kInvalidArgument names the flag, or the size that does not fit another.
Result<SynthOptions> ReadSynthFlags(const SynthFlags& flags);

// "n_embd=2048,n_ff=8192": sizes not named keep their defaults.
Result<SynthShape> ParseShape(const std::string& text);

}  // namespace thermocline::tools
