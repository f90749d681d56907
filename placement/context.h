// How many KV pages a plan should and must have for the wanted context and parallelism.
#pragma once

#include <cstdint>
#include <optional>

#include "base/status.h"
#include "model/config.h"
#include "placement/plan.h"

namespace thermocline::placement {

// A shortened context is not shortened below this: a chat template and a short answer need it.
inline constexpr int kMinContextTokens = 256;
// Where the file does not say what it was trained for.
inline constexpr int kDefaultContextTokens = 2048;
// The longest context that anybody has published is 10 M tokens.
inline constexpr int kMaxContextTokens = 1 << 24;
inline constexpr int kMaxParallel = 1 << 16;
inline constexpr int kMaxPageTokens = 1 << 12;
// Far above any useful step; keeps scratch bytes within 64 bits.
inline constexpr int kMaxPlanStepTokens = 1 << 20;
// Positions of all pages together: 256 sequences of the longest context. Times the bytes of a
// position in all layers of the largest model (kMaxEmbd, kMaxLayers) it stays within 64 bits.
inline constexpr int64_t kMaxKvTokens = int64_t{1} << 32;

// That a sequence of so many tokens takes; page_tokens is 1 or more.
int64_t PagesOf(int64_t n_tokens, int page_tokens);

struct ContextDemand {
  int n_ctx = 0;             // wished
  int64_t least_pages = 0;   // without these there is no plan
  int64_t wanted_pages = 0;  // enough for everything asked
  // The longest sequence that `n_pages` allow.
  int ContextOf(int64_t n_pages, int page_tokens) const;
};

// kInvalidArgument names the value of the request that is out of range.
Result<ContextDemand> DemandOf(const model::ModelConfig& config, const PlanRequest& request);

// What a sequence has stored on average, where nobody says: half of what each of `n_streams` may,
// with the KV as large as asked for. A context that nobody asked for counts as
// kDefaultContextTokens at most: models are trained for far longer ones than most conversations.
int64_t MeanContext(const ContextDemand& demand, const PlanRequest& request, int64_t n_streams);

// The tokens in the context of each stream that plans are made for: `depth`, or the mean where
// nobody says. kInvalidArgument: more than a sequence may have; and as DemandOf.
Result<int64_t> DepthToPlanFor(const model::ModelConfig& config, const PlanRequest& request,
                               int64_t n_streams, std::optional<int64_t> depth);

}  // namespace thermocline::placement
