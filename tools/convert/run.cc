#include "tools/convert/run.h"

#include <cstdio>
#include <filesystem>
#include <memory>
#include <utility>

#include "base/host_info.h"
#include "base/str.h"
#include "base/thread_pool.h"
#include "tools/convert/report.h"
#include "tools/convert/tensor_converter.h"
#include "tools/progress_bar.h"
#include "worker/assignment.h"

namespace thermocline::tools {
namespace {

std::vector<model::GgufTensorSpec> TargetsOf(const ConversionPlan& plan) {
  std::vector<model::GgufTensorSpec> specs;
  for (const PlannedTensor& tensor : plan.tensors) specs.push_back(tensor.target);
  return specs;
}

void PrintPlan(const ConversionPlan& plan) {
  ConversionReport report;
  for (const PlannedTensor& tensor : plan.tensors) report.Add(tensor, {});
  std::fputs(report.Text({.errors = false}).c_str(), stdout);
}

// A source that is replaced by its own conversion is gone, whatever the conversion lost.
Status CheckNotSource(const ConvertFlags& flags) {
  std::error_code error;
  if (!std::filesystem::equivalent(flags.input, flags.output, error)) return OkStatus();
  return InvalidArgument(Str("output is the input: ", flags.output));
}

// A checkpoint may lack tensors, or contradict its config.json; the model made of it then does not
// load, and is removed.
Status CheckLoads(const ConvertFlags& flags) {
  const Status status = worker::OpenModelInFileOrder(flags.output).status();
  if (status.ok()) return OkStatus();
  std::error_code ignored;
  std::filesystem::remove(flags.output, ignored);
  return status.WithContext(Str("the checkpoint makes no whole model: ", flags.input));
}

Status Convert(const SourceModel& source, const ConversionPlan& plan, const ConvertFlags& flags) {
  TC_ASSIGN_OR_RETURN(auto writer, model::GgufWriter::Create(flags.output, source.dialect,
                                                             plan.metadata, TargetsOf(plan)));
  const int n_threads = flags.n_threads > 0 ? flags.n_threads : AvailableCores();
  TC_ASSIGN_OR_RETURN(auto pool, ThreadPool::Create({n_threads, "convert", {}}));
  ConversionReport report;
  {
    ProgressBar bar("convert", writer->file_bytes());
    TensorConverter converter(*writer, *pool, bar, {flags.explain});
    for (size_t i = 0; i < plan.tensors.size(); ++i) {
      TC_ASSIGN_OR_RETURN(const TensorErrors errors, converter.Convert(plan.tensors[i], i));
      report.Add(plan.tensors[i], errors);
    }
  }
  TC_RETURN_IF_ERROR(writer->Finish());
  std::error_code error;
  if (std::filesystem::is_directory(flags.input, error)) TC_RETURN_IF_ERROR(CheckLoads(flags));
  std::fputs(report.Text({true, flags.explain}).c_str(), stdout);
  if (flags.explain) {
    std::puts(
        "rms error: of the weights as stored, relative to their own; as int8: one scale per 32 "
        "weights (Q8_0);\nas uint8: a scale and a zero point per 32 weights, which pays only where "
        "weights lean to one side");
  }
  return OkStatus();
}

}  // namespace

Status RunConvert(const ConvertFlags& flags) {
  TC_ASSIGN_OR_RETURN(const ConversionOptions options, ReadConvertFlags(flags));
  TC_ASSIGN_OR_RETURN(const SourceModel source, OpenSource(flags.input));
  TC_ASSIGN_OR_RETURN(const ConversionPlan plan, PlanConversion(source, options));
  for (const std::string& note : source.notes) std::fprintf(stderr, "note: %s\n", note.c_str());
  if (flags.dry_run) {
    PrintPlan(plan);
    return OkStatus();
  }
  TC_RETURN_IF_ERROR(CheckNotSource(flags));
  return Convert(source, plan, flags);
}

}  // namespace thermocline::tools
