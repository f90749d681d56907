// The seam between HTTP and the engine: token ids in, token ids out. Text never crosses it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/dtype.h"
#include "base/ids.h"
#include "base/status.h"
#include "model/sampler.h"
#include "model/sampling_params.h"
#include "placement/profile.h"

namespace thermocline::coordinator {

// One sequence to generate. A request with n choices submits n of them.
struct GenerationRequest {
  std::vector<int32_t> prompt;  // at least one token
  model::SamplingParams sampling;
  int max_tokens = 0;            // 0: only score the prompt; -1: until the context is full
  int min_tokens = 0;            // the end ids are banned before
  std::vector<int32_t> end_ids;  // sampling one ends the sequence (kStop); not in the text
};

enum class FinishReason : uint8_t { kStop, kLength, kCancelled, kError };

// What happened to a sequence. Tokens come one event each, in order; exactly one event, the last,
// has `finish` and nothing else.
struct GenerationEvent {
  std::vector<model::SampledToken> prompt_scores;  // once, before the first token, when asked for
  std::optional<model::SampledToken> token;
  std::optional<FinishReason> finish;
  Status error;  // why, for kError
};

// Receives the events of one sequence on the engine thread; must not wait.
class GenerationSink {
 public:
  virtual ~GenerationSink() = default;
  virtual void OnEvent(const GenerationEvent& event) = 0;
};

enum class ServiceState : uint8_t { kStarting, kPlanning, kLoading, kReady, kDraining, kFailed };

struct WorkerStatus {
  WorkerId id;
  std::string host;
  std::string device;
  int n_cores = 0;
  int stage = -1;
  bool is_helper = false;  // computes some of the neurons of its stage, which another worker leads
  int layer_begin = 0, layer_end = 0;
  uint64_t bytes_done = 0, bytes_total = 0;  // of its weights
  uint64_t memory_bytes = 0, peak_rss_bytes = 0;
  double heartbeat_age_s = 0;
  double busy_fraction = 0;              // of the time since the last heartbeat
  uint64_t compute_us = 0, wait_us = 0;  // total time in ops; waiting for a frame
  uint64_t link_bytes_sent = 0;
  int64_t kv_pages_used = 0;
  uint64_t steps_done = 0;                       // by its own count
  uint64_t last_step_us = 0, step_us_total = 0;  // its stage's share of answered steps
  uint64_t stale_frames = 0;                     // that it dropped: older epoch
  bool leaving = false;                          // has asked to; the next plan is without it
  std::vector<placement::GpuInfo> gpus;          // of its host
};

// A link of the plan, and what was known of it when the plan was made.
struct LinkStatus {
  WorkerId from, to;  // activations go this way first
  placement::LinkKind transport = placement::LinkKind::kZmq;
  DType wire = DType::kF32;
  placement::Figure latency_s, bytes_per_s;
};

// How the plan came to be and what a change of it took.
struct PlanStatus {
  bool is_changing = false;   // another plan is looked for, waited for or loaded
  bool streams_wait = false;  // until a plan is there: after a loss, or while one is loaded
  uint64_t n_changes = 0;
  uint64_t n_lost = 0;  // workers of it that were lost
  // Of the last change; meaningless before the first.
  std::string why;
  double age_s = 0;                         // since it was served
  double pause_s = 0;                       // that streams waited for
  uint64_t kept_bytes = 0, read_bytes = 0;  // weights that stayed in memory; that were read anew
  double change_gain = 0;  // of a step's time, as predicted; 0 for a change that was asked for
  // How far the neurons that fire are from those the plan was made for, 0 to 1, and what another
  // plan was last predicted to save of a step's time of the plan that serves.
  double drift = 0;
  double predicted_gain = 0;
  uint64_t tokens_looked_at = 0;  // that the drift is from
  std::string news;               // the last word on changes, for people
  std::vector<LinkStatus> links;  // of the plan that serves or loads
};

// What the plan was expected to do. Times are of a step of n_sequences tokens.
struct ExpectedSpeed {
  int64_t n_sequences = 1;
  double step_s = 0;  // through all stages and links
  int64_t n_streams = 1;
  double tokens_per_s = 0;             // of n_streams together
  double one_stream_tokens_per_s = 0;  // of one with nobody beside it
  std::vector<double> stage_s;
};

// A snapshot for health, metrics and the node table.
struct ServiceStatus {
  ServiceState state = ServiceState::kStarting;
  Status failure;  // why, for kFailed
  int n_running = 0;
  int n_waiting = 0;
  int64_t kv_tokens_total = 0, kv_tokens_used = 0;
  // Since any step was answered, which gave tokens or computed a part of a prompt; 0 when idle.
  double last_token_age_s = 0;
  uint64_t prompt_tokens = 0, generated_tokens = 0, steps = 0, preemptions = 0;
  uint64_t stale_frames = 0;  // dropped: older epoch, unknown peer or malformed
  uint64_t epoch = 0;
  PlanStatus plan;
  std::optional<ExpectedSpeed> expected;  // from the plan on
  std::vector<WorkerStatus> workers;
};

enum class ReplanAnswer : uint8_t {
  kAccepted,       // and on its way
  kServesAlready,  // nothing changes
};

// One sequence and who hears of it.
struct SequenceSubmission {
  GenerationRequest request;
  std::shared_ptr<GenerationSink> sink;
};

// Thread-safe.
class GenerationService {
 public:
  virtual ~GenerationService() = default;
  // Accepts all sequences of a request, ids in their order, or none; their first events may come
  // before this returns. kInvalidArgument: one can never fit the context or the KV cache, or they
  // are more than the service takes at once; kResourceExhausted: the queue is full;
  // kUnavailable: loading, draining or failed.
  virtual Result<std::vector<SeqId>> SubmitAll(std::vector<SequenceSubmission> submissions) = 0;
  // SubmitAll of one.
  Result<SeqId> Submit(GenerationRequest request, std::shared_ptr<GenerationSink> sink) {
    std::vector<SequenceSubmission> one;
    one.push_back({std::move(request), std::move(sink)});
    TC_ASSIGN_OR_RETURN(const std::vector<SeqId> ids, SubmitAll(std::move(one)));
    return ids.front();
  }
  // Ends a sequence early; its KV is released with the next step. Unknown or ended ids are ignored.
  virtual void Cancel(SeqId seq) = 0;
  virtual ServiceStatus status() const = 0;
  // Asks for another plan: that of `plan_json`, or a new one when it is "". Streams go on over it
  // after a pause. What came of it is in status(). kInvalidArgument names what is wrong with the
  // plan for these workers; kUnavailable: not now, or not with this service.
  virtual Result<ReplanAnswer> Replan(std::string /*plan_json*/) {
    return Unavailable("this service cannot change its plan");
  }
  // The longest sequence, prompt and generated tokens together; 0 until a plan exists.
  virtual int n_ctx() const = 0;
};

}  // namespace thermocline::coordinator
