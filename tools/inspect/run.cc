#include "tools/inspect/run.h"

#include <cstdio>
#include <utility>

#include "base/host_info.h"
#include "base/str.h"
#include "model/ffn_policy.h"
#include "model/fingerprint.h"
#include "model/gguf.h"
#include "model/range_reader.h"
#include "model/sparsity.h"
#include "tools/inspect/report.h"
#include "worker/assignment.h"

namespace thermocline::tools {
namespace {

std::string TextOf(const model::GgufFile& file, std::string_view key,
                   const std::string& otherwise) {
  const auto text = file.GetString(key);
  return text.ok() ? *text : otherwise;
}

std::string TokenizerOf(const model::GgufFile& file) {
  const std::string kind = TextOf(file, "tokenizer.ggml.model", "none");
  const std::string pre = TextOf(file, "tokenizer.ggml.pre", "");
  return pre.empty() ? kind : Str(kind, " (", pre, ")");
}

InspectReport DescribeFile(const model::GgufFile& file, const model::RangeReader& reader) {
  InspectReport report;
  report.path = reader.name();
  report.file_bytes = reader.size_bytes();
  const bool gguf = file.dialect() == model::GgufDialect::kGguf;
  report.format = Str(gguf ? "GGUF " : "PWRI ", file.version());
  report.architecture = TextOf(file, "general.architecture", "not named");
  report.name = TextOf(file, "general.name", "not named");
  report.tokenizer = TokenizerOf(file);
  report.has_chat_template = file.Has("tokenizer.chat_template");
  report.i_part = static_cast<int>(file.GetInt("split.no").ok() ? *file.GetInt("split.no") : 0);
  report.n_parts =
      static_cast<int>(file.GetInt("split.count").ok() ? *file.GetInt("split.count") : 1);
  report.groups = GroupTensors(file);
  report.layers = GroupLayers(file);
  return report;
}

StepReport MakeStep(const model::ModelConfig& config, const model::WeightIndex& weights,
                    const StepShape& shape) {
  const std::string mode(model::FfnModeName(shape.ffn));
  const bool decode = shape.n_tokens == 1;
  StepReport step;
  step.title = Str(decode ? "decode, " : "prefill, ", mode);
  step.key = Str(decode ? "decode_" : "prefill_", mode);
  step.cost = CostOf(config, weights, shape);
  return step;
}

// Dense always; the modes that the model can run where it is known how many neurons they leave.
std::vector<StepReport> MakeSteps(const RunnableModel& model, const worker::LoadedModel& loaded,
                                  int64_t n_context) {
  std::vector<StepReport> steps;
  for (const int64_t n_tokens : {int64_t{1}, int64_t{kPrefillTokens}}) {
    for (const model::FfnMode mode : model::kFfnModes) {
      const bool dense = mode == model::FfnMode::kDense;
      if (!dense && model.densities.layers.empty()) continue;
      if (!model::CheckFfnMode(loaded.config, loaded.sparsity, mode).ok()) continue;
      StepShape shape;
      shape.n_tokens = n_tokens;
      shape.n_context = n_context;
      shape.ffn = mode;
      shape.sparsity = &loaded.sparsity;
      if (!dense) shape.densities = model.densities;
      steps.push_back(MakeStep(loaded.config, loaded.weights, shape));
    }
  }
  return steps;
}

// Of our own files that are GGUF but no model; "" for others.
std::string WhatElseItIs(std::string_view architecture) {
  if (architecture == "thermocline.sparsity") {
    return "it is no model but the sparsity file of one: predictors, thresholds and what they cost";
  }
  if (architecture == "thermocline.profile") {
    return "it is no model but the profile of one: what its neurons did over a text";
  }
  return "";
}

// What is assumed instead of a profile's numbers does not hide that the profile is a bad one.
Status DescribeDensities(const InspectFlags& flags, const InspectReport& report,
                         RunnableModel* model) {
  DensityRequest request = {report.path, report.fingerprint, model->config.n_layer};
  auto found = FindDensities(request);
  if (found.ok()) {
    model->densities = *std::move(found);
  } else {
    model->profile_note = found.status().message();
  }
  if (flags.active < 0) return OkStatus();
  request.active = flags.active;
  TC_ASSIGN_OR_RETURN(model->densities, FindDensities(request));
  return OkStatus();
}

// Why the model cannot be run, or its profile not be used, is a fact to show; a bad sparsity file
// beside it is an error.
Status DescribeModel(const InspectFlags& flags, InspectReport* report, std::vector<DType>* dtypes) {
  if (report->n_parts > 1) {
    report->why_not_runnable =
        "one part of several; join them with `llama-gguf-split --merge FIRST-PART OUT.gguf`";
    return OkStatus();
  }
  report->why_not_runnable = WhatElseItIs(report->architecture);
  if (!report->why_not_runnable.empty()) return OkStatus();
  auto opened = worker::OpenModelInFileOrder(flags.model_path);
  if (!opened.ok()) {
    report->why_not_runnable = opened.status().message();
    return OkStatus();
  }
  worker::LoadedModel loaded = *std::move(opened);
  const std::string sparsity_path = model::FindSparsityFile("", flags.model_path);
  if (!sparsity_path.empty()) {
    TC_RETURN_IF_ERROR(worker::AttachSparsityFile(sparsity_path, &loaded));
  }
  RunnableModel model;
  model.config = loaded.config;
  model.has_predictors = loaded.sparsity.has_predictors();
  TC_RETURN_IF_ERROR(DescribeDensities(flags, *report, &model));
  model.steps = MakeSteps(model, loaded, flags.n_context);
  for (const OpCost& op : model.steps.front().cost.ops) dtypes->push_back(op.dtype);
  report->runnable = std::move(model);
  return OkStatus();
}

}  // namespace

Status RunInspect(const InspectFlags& flags) {
  TC_RETURN_IF_ERROR(CheckInspectFlags(flags));
  TC_ASSIGN_OR_RETURN(const auto reader, model::OpenMappedFile(flags.model_path));
  TC_ASSIGN_OR_RETURN(const model::GgufFile file,
                      model::GgufFile::Parse(*reader, model::GgufParts::kAllow));
  InspectReport report = DescribeFile(file, *reader);
  report.n_context = flags.n_context;
  if (flags.tensors) report.tensors = file.tensors();
  TC_ASSIGN_OR_RETURN(report.fingerprint, model::FingerprintOf(*reader, file));
  std::vector<DType> dtypes;
  TC_RETURN_IF_ERROR(DescribeModel(flags, &report, &dtypes));
  if (report.runnable && !flags.no_measure) {
    const int n_threads = flags.n_threads > 0 ? flags.n_threads : AvailableCores();
    TC_ASSIGN_OR_RETURN(report.rates, MeasureRates(n_threads, dtypes));
  }
  std::fputs((flags.json ? InspectJson(report) : InspectText(report)).c_str(), stdout);
  return OkStatus();
}

}  // namespace thermocline::tools
