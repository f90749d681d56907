#include "tools/plan/flags.h"

#include "base/str.h"
#include "placement/context.h"
#include "placement/planner.h"
#include "placement/solver/split_problem.h"

namespace thermocline::tools {
namespace {

Status CheckWithin(const char* flag, int64_t value, int64_t low, int64_t high) {
  if (low <= value && value <= high) return OkStatus();
  return InvalidArgument(Str(flag, " is not within ", low, "..", high, ": ", value));
}

}  // namespace

Status CheckPlanFlags(const PlanFlags& flags) {
  if (!flags.cluster_path.empty() && flags.n_workers > 0) {
    return InvalidArgument("--cluster already says which workers there are: leave out --workers");
  }
  if (!flags.cluster_path.empty() && !flags.memory.empty()) {
    return InvalidArgument("--cluster already says what memory workers have: leave out --memory");
  }
  if (!flags.cluster_path.empty() && flags.read_gb_per_s != 0) {
    return InvalidArgument(
        "--cluster already says how fast workers read: leave out --read-gb-per-s");
  }
  if (flags.cluster_path.empty() && flags.n_workers == 0) {
    return InvalidArgument(
        "plan for which cluster? --cluster FILE, or --workers N of --memory and --read-gb-per-s");
  }
  TC_RETURN_IF_ERROR(CheckWithin("--workers", flags.n_workers, 0, placement::kMaxSplitDevices));
  if (!(flags.read_gb_per_s >= 0 && flags.read_gb_per_s < 1e6)) {
    return InvalidArgument(Str("--read-gb-per-s is negative or too large: ", flags.read_gb_per_s));
  }
  if (flags.active != -1 && !(flags.active >= 0 && flags.active <= 1)) {
    return InvalidArgument(Str("--active is not within 0..1: ", flags.active));
  }
  TC_RETURN_IF_ERROR(CheckWithin("--ctx-size", flags.n_ctx, 0, placement::kMaxContextTokens));
  TC_RETURN_IF_ERROR(CheckWithin("--parallel", flags.n_parallel, 1, placement::kMaxParallel));
  TC_RETURN_IF_ERROR(
      CheckWithin("--batch-size", flags.batch_size, 1, placement::kMaxPlanStepTokens));
  TC_RETURN_IF_ERROR(CheckWithin("--streams", flags.n_streams, 0, placement::kMaxParallel));
  TC_RETURN_IF_ERROR(CheckWithin("--sequences", flags.n_sequences, 0, placement::kMaxParallel));
  TC_RETURN_IF_ERROR(CheckWithin("--depth", flags.n_depth, -1, placement::kMaxContextTokens));
  TC_RETURN_IF_ERROR(CheckWithin("--max-group", flags.max_group, 1, placement::kMaxSplitDevices));
  if (flags.with_neuron_tables && flags.output_path.empty()) {
    return InvalidArgument("--with-neuron-tables goes into the plan that is written: give -o FILE");
  }
  const int n_to_stdout =
      (flags.output_path == "-") + (flags.html_path == "-") + (flags.save_cluster == "-");
  if (n_to_stdout > 1) {
    return InvalidArgument("only one of --output, --html and --save-cluster can be stdout (-)");
  }
  if (flags.objective.empty()) return OkStatus();
  return placement::ParseObjective(flags.objective).status();
}

}  // namespace thermocline::tools
