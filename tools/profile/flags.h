// The settings of `thermocline profile` as people give them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/status.h"

namespace thermocline::tools {

struct ProfileFlags {
  std::string model_path;
  std::string text_path;
  std::string output_path;       // "": M.profile.gguf beside M.gguf
  std::string html_path;         // "": no page
  std::string held_out = "0.1";  // a file, or a share of the text
  std::string n_tokens = "32768";
  int window_tokens = 256;
  int n_threads = 0;  // 0: all cores
  uint64_t seed = 1;
  bool quiet = false;
  std::string log_level = "warn";

  std::string counts_dir;        // PowerInfer's counts instead of a text
  std::string n_counted_tokens;  // that they were taken over; "": unknown

  bool perplexity_only = false;
  bool guard_only = false;             // measure the modes there are and record their losses
  std::string ffn;                     // of perplexity_only; "" and "all": every mode
  std::string predictor_path;          // the sparsity file: read by perplexity_only, else written
  bool replace = false;                // keep nothing of a sparsity file that is there
  std::optional<double> allowed_loss;  // of perplexity, relative; none: see AllowedLoss
  bool skip_guard = false;

  bool train_predictor = false;
  std::string predictor_kind = "trained";
  double recall = 0.99;
  double predictor_budget = 0.1;  // of the bytes of all FFN weights
  int train_steps = 1500;
  std::string sample_memory = "2G";

  std::optional<double> threshold_target;  // loss of perplexity; none: no thresholds are looked for
};

// Checks what can be checked without the model. kInvalidArgument names the flag.
Status CheckProfileFlags(const ProfileFlags& flags);

// The loss a mode may have: --allowed-loss, else 1 % or, where thresholds are looked for that cost
// more, what was asked of them.
double AllowedLoss(const ProfileFlags& flags);

// "0.1" -> 0.1; nothing when the text is no number, and so the name of a file.
Result<double> ParseShare(const std::string& text);

}  // namespace thermocline::tools
