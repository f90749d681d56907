#include "tools/bench_model/run.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/cpu_list.h"
#include "base/host_info.h"
#include "kernels/device.h"
#include "model/ffn_mode.h"
#include "model/sparsity.h"
#include "tools/bench_model/against.h"
#include "tools/bench_model/cases.h"
#include "tools/bench_model/report.h"
#include "tools/bench_model/runnable.h"
#include "tools/bench_model/session.h"
#include "tools/machine/machine_info.h"
#include "worker/assignment.h"

namespace thermocline::tools {
namespace {

// Null without --against.
Result<std::unique_ptr<Against>> MakeAgainst(const BenchFlags& flags) {
  if (flags.against.empty()) return std::unique_ptr<Against>();
  TC_ASSIGN_OR_RETURN(Against against,
                      Against::Create({flags.against, flags.against_pattern,
                                       std::chrono::seconds(flags.against_timeout_s)}));
  return std::make_unique<Against>(std::move(against));
}

bool NeedsSparsity(const BenchOptions& options) {
  const auto needs = [](const std::string& ffn) {
    const auto wish = model::ParseFfnWish(ffn, std::nullopt);
    return wish.ok() && wish->needs_sparsity();
  };
  return std::any_of(options.ffn.begin(), options.ffn.end(), needs);
}

// With the predictors and thresholds that lie beside them, where a mode may use these.
Result<std::vector<worker::LoadedModel>> OpenModels(const BenchFlags& flags,
                                                    const BenchOptions& options) {
  std::vector<worker::LoadedModel> models;
  for (const std::string& path : options.model_paths) {
    TC_ASSIGN_OR_RETURN(worker::LoadedModel model, worker::OpenModel(path));
    const std::string sparsity_path = model::FindSparsityFile(flags.predictor_path, path);
    if (NeedsSparsity(options) && !sparsity_path.empty()) {
      TC_RETURN_IF_ERROR(worker::AttachSparsityFile(sparsity_path, &model));
    }
    models.push_back(std::move(model));
  }
  return models;
}

BenchReport DescribeRun(const BenchFlags& flags, const std::vector<std::string>& paths,
                        const std::vector<worker::LoadedModel>& models, const BenchCases& cases) {
  BenchReport report;
  report.build = BuildName();
  report.date = UtcNow();
  report.cpu = CpuName();
  report.n_cores = AvailableCores();
  report.repetitions = flags.repetitions;
  report.against = flags.against;
  for (size_t i = 0; i < paths.size(); ++i) {
    report.models.push_back(SummaryOf(paths[i], models[i]));
  }
  report.setups = cases.setups;
  report.cases = cases.cases;
  return report;
}

}  // namespace

Status RunBench(const BenchFlags& flags) {
  TC_RETURN_IF_ERROR(kernels::UseInstructionSet(flags.isa).WithContext("--isa"));
  TC_ASSIGN_OR_RETURN(const BenchOptions options, ParseBenchFlags(flags));
  TC_ASSIGN_OR_RETURN(const kernels::DeviceChoice device, kernels::ParseDeviceChoice(flags.device));
  TC_RETURN_IF_ERROR(RunOn(options.cpus));
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<Against> against, MakeAgainst(flags));
  TC_ASSIGN_OR_RETURN(const std::vector<worker::LoadedModel> models, OpenModels(flags, options));
  const BenchModels named = {models, options.model_paths};
  TC_ASSIGN_OR_RETURN(RunnableCases runnable,
                      KeepRunnable(named, CombineCases(options), flags.allowed_loss));
  const BenchCases& cases = runnable.cases;
  BenchReport report = DescribeRun(flags, options.model_paths, models, cases);
  report.notes = std::move(runnable.notes);
  for (std::string& note : CautionsFor(named, cases, report.n_cores, flags.allowed_loss)) {
    report.notes.push_back(std::move(note));
  }
  const auto show = [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); };
  for (const std::string& note : report.notes) show("note: " + note);
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<BenchSession> session,
                      BenchSession::Create(models, cases, against.get(),
                                           {flags.repetitions, flags.batch_size, flags.seed,
                                            flags.allowed_loss, options.probe_bytes, options.cpus,
                                            flags.per_op, device, options.uses_graphs},
                                           show));
  TC_ASSIGN_OR_RETURN(report.results, session->Run(options.model_paths));
  report.probe_bytes = session->probe_bytes();
  report.instruction_set = session->instruction_set();
  report.is_apart = session->is_apart();
  std::fputs(FormatReport(report, options.format).c_str(), stdout);
  return OkStatus();
}

}  // namespace thermocline::tools
