// Measures what each FFN mode costs, and what predictors take of the time.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/ffn_mode.h"
#include "model/sparsity_profile.h"
#include "tools/profile/perplexity.h"
#include "tools/profile/text_windows.h"
#include "worker/assignment.h"

namespace thermocline::tools {

struct GuardOptions {
  int n_threads = 1;
  int window_tokens = 256;
  double allowed_loss = 0.01;
  bool quiet = false;
};

// The modes that `model` can run with the sparsity attached to it, dense first.
std::vector<model::FfnMode> AvailableModes(const worker::LoadedModel& model);

// Perplexity of each of `modes` on `text` and its loss against the first, which is dense. The codes
// of MeasurePerplexity.
Result<model::GuardRecord> MeasureModes(const worker::LoadedModel& model, const TextWindows& text,
                                        const std::vector<model::FfnMode>& modes,
                                        const GuardOptions& options);

// Per layer: the share of its time that its predictor takes when one token is decoded after the
// other in predicted mode, over the first tokens of the text. The codes of WindowRunner.
Result<std::vector<double>> PredictorTimeShares(const worker::LoadedModel& model,
                                                const TextWindows& text,
                                                const GuardOptions& options);

// The loss of `mode` in a record; nothing when it was not measured.
std::optional<float> LossOf(const model::GuardRecord& guard, model::FfnMode mode);

}  // namespace thermocline::tools
