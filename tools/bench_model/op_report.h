// The part of a benchmark's report that tells where the time of a step goes.
#pragma once

#include <string>
#include <vector>

#include "tools/bench_model/op_times.h"
#include "tools/bench_model/report.h"

namespace thermocline::tools {

// One operator, or what lies between them, in numbers per step.
struct OpLine {
  std::string name;
  double calls = 0, seconds = 0, bytes = 0;
  double share = 0;  // of the time of the step
  double bytes_per_s() const { return seconds > 0 ? bytes / seconds : 0; }
};

// A line per operator, the longest first; then what is left of the time: sampling, and what starts
// and ends a step. Empty when no ops were watched.
std::vector<OpLine> OpLinesOf(const CaseResult& result);

// The share of the time that predictors take, choosing included; 0 without any.
double PredictorShare(const CaseResult& result);

// A table headed by `title`.
std::string MarkdownOps(const std::string& title, const CaseResult& result);

}  // namespace thermocline::tools
