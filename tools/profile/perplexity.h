// How well a model predicts a text: what a faster mode may cost is measured by it.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "kernels/traffic.h"
#include "tools/profile/text_windows.h"
#include "tools/profile/window_runner.h"

namespace thermocline::tools {

struct Perplexity {
  double value = 0;       // exp of the mean negative log likelihood per token
  uint64_t n_tokens = 0;  // scored
  double seconds = 0;
  kernels::Traffic traffic;
};

// Runs the windows and scores every token but the first of each. kInvalidArgument when a score is
// not a number; the codes of WindowRunner.
Result<Perplexity> MeasurePerplexity(const worker::LoadedModel& model, const TextWindows& text,
                                     const RunnerOptions& options, const std::string& what,
                                     bool quiet);

// How much worse than `dense`: 0.01 is 1 %.
inline double LossAgainst(const Perplexity& dense, const Perplexity& mode) {
  return mode.value / dense.value - 1;
}

}  // namespace thermocline::tools
