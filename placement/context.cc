#include "placement/context.h"

#include <algorithm>

#include "base/str.h"

namespace thermocline::placement {
namespace {

Status CheckRange(std::string_view name, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return OkStatus();
  return InvalidArgument(Str(name, " out of range: ", value, " is not in ", low, "..", high));
}

}  // namespace

int64_t PagesOf(int64_t n_tokens, int page_tokens) {
  return (n_tokens + page_tokens - 1) / page_tokens;
}

int ContextDemand::ContextOf(int64_t n_pages, int page_tokens) const {
  return static_cast<int>(std::min<int64_t>(n_ctx, n_pages * page_tokens));
}

Result<ContextDemand> DemandOf(const model::ModelConfig& config, const PlanRequest& request) {
  TC_RETURN_IF_ERROR(CheckRange("n_ctx", request.n_ctx, 0, kMaxContextTokens));
  TC_RETURN_IF_ERROR(CheckRange("n_parallel", request.n_parallel, 1, kMaxParallel));
  TC_RETURN_IF_ERROR(CheckRange("max_step_tokens", request.max_step_tokens, 1, kMaxPlanStepTokens));
  TC_RETURN_IF_ERROR(CheckRange("kv.page_tokens", request.kv.page_tokens, 1, kMaxPageTokens));
  TC_RETURN_IF_ERROR(model::CheckContext(config, request.n_ctx));
  const int64_t max_pages = kMaxKvTokens / request.kv.page_tokens;
  TC_RETURN_IF_ERROR(CheckRange("kv.n_pages", request.kv.n_pages, 0, max_pages));
  const int trained = config.n_ctx_train > 0 ? std::min(config.n_ctx_train, kMaxContextTokens)
                                             : kDefaultContextTokens;
  ContextDemand demand;
  demand.n_ctx = request.n_ctx > 0 ? request.n_ctx : trained;
  const int least = request.n_ctx > 0 ? request.n_ctx : std::min(trained, kMinContextTokens);
  const int page_tokens = request.kv.page_tokens;
  demand.least_pages = PagesOf(least, page_tokens);
  demand.wanted_pages =
      std::min(PagesOf(demand.n_ctx, page_tokens) * request.n_parallel, max_pages);
  if (request.kv.n_pages > 0) {
    if (request.kv.n_pages < demand.least_pages) {
      return InvalidArgument(
          Str("KV pages hold less than one sequence:", Kv("n_pages", request.kv.n_pages),
              Kv("page_tokens", page_tokens), Kv("n_ctx", least)));
    }
    demand.least_pages = demand.wanted_pages = request.kv.n_pages;
  }
  return demand;
}

int64_t MeanContext(const ContextDemand& demand, const PlanRequest& request, int64_t n_streams) {
  const int64_t stored =
      demand.wanted_pages * request.kv.page_tokens / std::max<int64_t>(n_streams, 1);
  int64_t longest = std::min<int64_t>(demand.n_ctx, stored);
  if (request.n_ctx == 0) longest = std::min<int64_t>(longest, kDefaultContextTokens);
  return longest / 2;
}

Result<int64_t> DepthToPlanFor(const model::ModelConfig& config, const PlanRequest& request,
                               int64_t n_streams, std::optional<int64_t> depth) {
  TC_ASSIGN_OR_RETURN(const ContextDemand demand, DemandOf(config, request));
  if (!depth) return MeanContext(demand, request, n_streams);
  if (*depth <= demand.n_ctx) return *depth;
  return InvalidArgument(
      Str("--depth is above the longest context:", Kv("depth", *depth), Kv("n_ctx", demand.n_ctx)));
}

}  // namespace thermocline::placement
