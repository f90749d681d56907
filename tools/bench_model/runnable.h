// Which of the cases asked for can run, and what to tell people about the others and about those
// that say little.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/ffn_mode.h"
#include "tools/bench_model/cases.h"
#include "worker/assignment.h"

namespace thermocline::tools {

// The FFN modes that a setup chooses from. The codes of ParseFfnWish and ResolveFfnModes.
Result<model::FfnModes> FfnModesOf(const worker::LoadedModel& model, const std::string& ffn,
                                   std::optional<double> allowed_loss);

struct RunnableCases {
  BenchCases cases;
  std::vector<std::string> notes;  // one sentence each
};

// Models as the setups number them, with their paths.
struct BenchModels {
  const std::vector<worker::LoadedModel>& models;
  const std::vector<std::string>& paths;
};

// Leaves out the setups whose FFN mode their model cannot run or whose loss is not allowed, with a
// note on each. When no setup is left: what FfnModesOf says of the first.
Result<RunnableCases> KeepRunnable(const BenchModels& models, const BenchCases& all,
                                   std::optional<double> allowed_loss);

// Notes on contexts beyond what a model was trained for, on more threads than cores, and on
// predictors that nobody has measured.
std::vector<std::string> CautionsFor(const BenchModels& models, const BenchCases& cases,
                                     int n_cores, std::optional<double> allowed_loss);

}  // namespace thermocline::tools
