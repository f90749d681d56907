// The plan: which worker holds which layers and how stages are joined. Plain data, versioned by its
// epoch, readable and editable by hand as JSON.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/ids.h"
#include "base/status.h"
#include "base/units.h"
#include "model/config.h"
#include "model/ffn_mode.h"
#include "model/weights.h"
#include "placement/model_bytes.h"
#include "placement/profile.h"

namespace thermocline::placement {

// What a plan says of one of its links, both ways alike; left out: as the plan has it for all.
struct LinkChoice {
  std::optional<LinkKind> link;
  std::optional<DType> wire;
  friend bool operator==(const LinkChoice&, const LinkChoice&) = default;
};

// How activations travel between two workers.
struct LinkWay {
  LinkKind link = LinkKind::kZmq;
  DType wire = DType::kF32;
  friend bool operator==(const LinkWay&, const LinkWay&) = default;
};

// A worker that computes some of the neurons of another worker's stage, and some of its heads.
struct HelperPlan {
  WorkerId worker;
  std::vector<NeuronRange> neurons;  // by layer of the stage; empty: it has none in that layer
  HeadRange heads;                   // KV heads of attention, alike in every layer; empty: none
  PartBytes bytes;
  uint64_t kv_bytes = 0;  // keys and values of its heads
  std::string reason;     // what it saves and what it costs, for people
  LinkChoice to_lead;
  friend bool operator==(const HelperPlan&, const HelperPlan&) = default;
};

// Contiguous layers on one lead worker, which computes everything but the neurons of its helpers.
struct StagePlan {
  WorkerId lead;
  model::LayerRange layers;
  uint64_t weights_bytes = 0;    // of the file, own ranges only
  uint64_t relay_bytes = 0;      // more than that in memory: ffn_down re-laid as neuron rows
  uint64_t predictor_bytes = 0;  // as held in memory: halves of a file as Q8_0
  uint64_t saved_bytes = 0;      // less than all that in memory: neuron rows in 8 bits
  uint64_t kv_bytes = 0;         // of its own heads
  std::string reason;            // why this worker got these layers, for people
  // The lead's own neurons, by layer of the stage; no entry: every neuron of every layer. With
  // those of the helpers they are all neurons of a layer, each once.
  std::vector<NeuronRange> neurons;
  // The lead's own KV heads, where helpers have the others; empty: all of them.
  HeadRange heads;
  std::vector<HelperPlan> helpers;  // partial sums are added in this order
  LinkChoice to_next;               // of the last stage nothing: its results go to the coordinator

  PartBytes bytes() const { return {weights_bytes, relay_bytes, predictor_bytes, saved_bytes}; }
  bool is_split() const { return !helpers.empty(); }
  bool shares_heads() const { return !heads.empty(); }
  friend bool operator==(const StagePlan&, const StagePlan&) = default;
};

struct KvBudget {
  int page_tokens = 16;  // positions per page
  int64_t n_pages = 0;   // per stage; the same everywhere, so that one admission rule serves all
  DType dtype = DType::kF32;
  int64_t n_tokens() const { return n_pages * page_tokens; }
  friend bool operator==(const KvBudget&, const KvBudget&) = default;
};

struct Plan {
  Epoch epoch;
  std::string model_fingerprint;  // "" in a hand-written plan: any model of that many layers
  int n_layer = 0;
  std::vector<StagePlan> stages;  // in the order a token passes them
  // Of every link that does not say otherwise: its transport, and the type of activations on it.
  LinkKind link = LinkKind::kZmq;
  DType wire = DType::kF32;
  KvBudget kv;
  int n_ctx = 0;  // longest sequence
  // Batches that a stage with helpers has under way: while the answers to one are on their way, its
  // lead computes another. Each reads the weights again.
  int micro_batches = 1;
  // Batches that keep every stage busy: one each, micro_batches where there are helpers.
  int batches_under_way() const;
  // Whether any two workers are joined by a link.
  bool has_links() const;
  LinkWay WayOf(const LinkChoice& choice) const {
    return {choice.link.value_or(link), choice.wire.value_or(wire)};
  }
  friend bool operator==(const Plan&, const Plan&) = default;
};

// Rows of logits that the last stage computes together: bounds their scratch to 32 * n_vocab
// floats, 16 MiB for the largest published vocabularies.
inline constexpr int kLogitsBlockRows = 32;
// Of x[n_rows, n_embd] on a link: what the cost model counts and what a worker sends.
uint64_t ActivationBytes(DType wire, int64_t n_rows, int64_t n_embd);
// The same of a helper's sums: F64 where activations are F32, so that no bit of them is lost, else
// rounded as activations are.
uint64_t SumsBytes(DType wire, int64_t n_rows, int64_t n_embd);
// Keys and values of one page in one layer: 2 * page_tokens * n_embd_kv elements.
uint64_t KvPageBytes(const model::ModelConfig& config, const KvBudget& kv);
// Of all pages in the layers of a stage, as far as a member with `heads` holds them.
uint64_t KvBytes(const model::ModelConfig& config, const KvBudget& kv,
                 const model::LayerRange& layers, const HeadRange& heads);
// Of a lead; of a helper its `heads` say.
HeadRange HeadsOf(const StagePlan& stage, const model::ModelConfig& config);
// For people: " with KV heads 2-5", of a member that shares some; "" of one that does not.
std::string HeadsText(const HeadRange& heads);

struct PlanRequest {
  int n_ctx = 0;       // 0: the model's training context, shortened until one sequence fits
  int n_parallel = 4;  // sequences of n_ctx that the KV should hold when memory allows
  KvBudget kv;         // page_tokens and dtype are taken, n_pages is computed (0) or wanted
  LinkKind link = LinkKind::kZmq;  // the plan's, for all its links
  // Pairs of workers for which the cluster has another transport than that use theirs.
  bool link_by_pair = false;
  DType wire = DType::kF32;                 // the plan's, for all its links
  std::optional<DType> wire_between_hosts;  // where it is another one
  int max_step_tokens = 512;                // rows of the largest step, 1 or more
  // What the stages will choose from: ffn_down is re-laid and predictors are held as they need.
  model::FfnModes ffn = model::FfnMode::kDense;
  Epoch epoch;
  std::string model_fingerprint;
};

// Checks that every layer is placed once and in order, that ends are marked, leads and helpers
// exist and have one place each, only what is a link has a transport and a wire type, the members
// of a stage hold every neuron of a layer once and every KV head once, the lead at least one of
// each, the stated bytes are what the model needs, and every member fits its worker's memory. Of
// the request, max_step_tokens and ffn count. kInvalidArgument names the first violated rule with
// its numbers.
Status ValidatePlan(const Plan& plan, const model::ModelConfig& config,
                    const model::WeightIndex& weights, const ClusterProfile& cluster,
                    const PlanRequest& request);

// Fills in what a hand-written plan may leave out (bytes, page counts, context) from the model and
// the request, then validates.
Result<Plan> CompletePlan(Plan plan, const model::ModelConfig& config,
                          const model::WeightIndex& weights, const ClusterProfile& cluster,
                          const PlanRequest& request);

// Transports, left out: whoever reads it chooses them.
enum class PlanLink : uint8_t { kWrite, kLeaveOut };

// JSON in and out; docs/plan-format.md describes every field. Fields that the text leaves out keep
// the value they have in `defaults`. kInvalidArgument names the field, or the line of a syntax
// error. Needs no worker: a plan can be checked for its format and version before anybody joins;
// CompletePlan checks it against model and cluster.
std::string PlanToJson(const Plan& plan, PlanLink link = PlanLink::kWrite);
// What a text says of all links of its plan, rather than leaving it to the defaults.
struct SaidOfLinks {
  bool link = false;
  bool wire = false;
};
Result<Plan> PlanFromJson(std::string_view json, const Plan& defaults = {},
                          SaidOfLinks* said = nullptr);

// A plan of the deepest model with one layer per stage and a long reason each stays far below.
inline constexpr size_t kMaxPlanJsonBytes = 4 * kMiB;
inline constexpr int kMaxStages = model::kMaxLayers;
// With four batches under way a lead waits only where the way to its helpers and back takes three
// times what a batch computes; more batches would read the weights in vain.
inline constexpr int kMaxMicroBatches = 4;
inline constexpr int kMaxHelpers = 64;  // of one stage; a star of more would wait for its own link
// Of a plan with a stage that shares its heads: helpers are told with each step which pages its
// sequences have, in one message. 8 million tokens in pages of 16.
inline constexpr int64_t kMaxToldPages = int64_t{1} << 19;
inline constexpr size_t kMaxReasonBytes = 1024;

}  // namespace thermocline::placement
