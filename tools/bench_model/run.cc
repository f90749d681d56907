#include "tools/bench_model/run.h"

#include <chrono>
#include <cstdio>
#include <memory>
#include <utility>
#include <vector>

#include "base/host_info.h"
#include "tools/bench_model/against.h"
#include "tools/bench_model/cases.h"
#include "tools/bench_model/report.h"
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

Result<std::vector<worker::LoadedModel>> OpenModels(const std::vector<std::string>& paths) {
  std::vector<worker::LoadedModel> models;
  for (const std::string& path : paths) {
    TC_ASSIGN_OR_RETURN(worker::LoadedModel model, worker::OpenModel(path));
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
  TC_ASSIGN_OR_RETURN(const BenchOptions options, ParseBenchFlags(flags));
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<Against> against, MakeAgainst(flags));
  TC_ASSIGN_OR_RETURN(const std::vector<worker::LoadedModel> models,
                      OpenModels(options.model_paths));
  const BenchCases cases = CombineCases(options);
  BenchReport report = DescribeRun(flags, options.model_paths, models, cases);
  const auto show = [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); };
  TC_ASSIGN_OR_RETURN(
      const std::unique_ptr<BenchSession> session,
      BenchSession::Create(models, cases, against.get(),
                           {flags.repetitions, flags.batch_size, flags.seed, options.probe_bytes},
                           show));
  TC_ASSIGN_OR_RETURN(report.results, session->Run(options.model_paths));
  report.probe_bytes = session->probe_bytes();
  report.instruction_set = session->instruction_set();
  std::fputs(FormatReport(report, options.format).c_str(), stdout);
  return OkStatus();
}

}  // namespace thermocline::tools
