#include "tools/inspect/run.h"

#include <cstdio>
#include <map>
#include <utility>

#include "base/host_info.h"
#include "base/str.h"
#include "model/fingerprint.h"
#include "model/gguf.h"
#include "model/range_reader.h"
#include "model/weights.h"
#include "tools/inspect/report.h"

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
  const std::string mode(model::FfnModeName(shape.ffn.mode));
  const bool decode = shape.n_tokens == 1;
  StepReport step;
  step.title = Str(decode ? "decode, " : "prefill, ", mode);
  step.key = Str(decode ? "decode_" : "prefill_", mode);
  step.cost = CostOf(config, weights, shape);
  return step;
}

// Dense always; the modes that the model can run where it is known how many neurons they leave.
std::vector<StepReport> MakeSteps(const RunnableModel& model, const model::WeightIndex& weights,
                                  int64_t n_context) {
  std::vector<StepReport> steps;
  for (const int64_t n_tokens : {int64_t{1}, int64_t{kPrefillTokens}}) {
    StepShape shape;
    shape.n_tokens = n_tokens;
    shape.n_context = n_context;
    steps.push_back(MakeStep(model.config, weights, shape));
    if (model.densities.layers.empty()) continue;
    if (!model::CheckFfnMode(model.config, model::FfnMode::kExact).ok()) continue;
    shape.ffn = {model::FfnMode::kExact, true};
    shape.densities = model.densities.layers;
    steps.push_back(MakeStep(model.config, weights, shape));
  }
  return steps;
}

// Why the model cannot be run is a fact to show; a bad profile beside it is an error.
Status DescribeModel(const model::GgufFile& file, const InspectFlags& flags, InspectReport* report,
                     std::vector<DType>* dtypes) {
  if (report->n_parts > 1) {
    report->why_not_runnable =
        "one part of several; join them with `llama-gguf-split --merge FIRST-PART OUT.gguf`";
    return OkStatus();
  }
  auto config = model::ModelConfig::FromGguf(file);
  auto weights = config.ok() ? model::WeightIndex::Build(*config, file)
                             : Result<model::WeightIndex>(config.status());
  if (!weights.ok()) {
    report->why_not_runnable = weights.status().message();
    return OkStatus();
  }
  RunnableModel model;
  model.config = *std::move(config);
  model.has_predictors = weights->Find(model::WeightRole::kPredictorFc1, 0) != nullptr;
  TC_ASSIGN_OR_RETURN(model.densities, FindDensities({report->path, report->fingerprint,
                                                      model.config.n_layer, flags.active}));
  model.steps = MakeSteps(model, *weights, flags.n_context);
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
  TC_RETURN_IF_ERROR(DescribeModel(file, flags, &report, &dtypes));
  if (report.runnable && !flags.no_measure) {
    const int n_threads = flags.n_threads > 0 ? flags.n_threads : AvailableCores();
    TC_ASSIGN_OR_RETURN(report.rates, MeasureRates(n_threads, dtypes));
  }
  std::fputs((flags.json ? InspectJson(report) : InspectText(report)).c_str(), stdout);
  return OkStatus();
}

}  // namespace thermocline::tools
