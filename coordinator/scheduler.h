// Decides what each step computes: continuous batching, chunked prefill, admission to the paged KV.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "coordinator/generation_service.h"
#include "proto/messages.h"

namespace thermocline::coordinator {

struct SchedulerOptions {
  Epoch epoch;
  int n_ctx = 0;  // longest sequence, prompt and generated tokens together
  int n_vocab = 0;
  int page_tokens = 16;
  int64_t n_pages = 0;        // of every stage; page_tokens * n_pages >= n_ctx
  int n_batches = 1;          // batches that keep every stage busy; 1 or more
  int max_in_flight = 2;      // steps sent and not answered
  int max_step_tokens = 512;  // rows of one step, >= 2
  // Rows of prompts in one step while other sequences decode, and with several batches: the
  // chunks of a prompt follow each other through the stages.
  int prefill_chunk = 128;
  int max_waiting = 256;  // accepted sequences that have no KV yet
  int max_running = 256;  // sequences that have KV
};

// Workers that a request may take with it. One worker's death says nothing; a second one at the
// same token is hardly chance. Where others were computed too, a third tells who it was.
inline constexpr int kMostLosses = 2;

// What the engine must do: send these steps in order, then deliver these events in order.
struct SchedulerActions {
  std::vector<proto::StepBatch> steps;
  std::vector<std::pair<SeqId, GenerationEvent>> events;
};

struct SchedulerCounts {
  int n_running = 0;
  int n_waiting = 0;
  int64_t pages_used = 0;
  uint64_t prompt_tokens = 0, generated_tokens = 0, steps = 0, preemptions = 0;
  uint64_t unknown_results = 0;  // answers to no outstanding step; ignored
};

// The state of every accepted sequence. Its token list is the truth; KV is a cache of it, counted
// in pages. Stages handle steps in order and free released sequences before a step's rows, so pages
// of a released sequence are free for the very step that carries the release.
//
// No I/O, no clock, no thread: equal calls give equal actions. Engine thread only.
class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options);

  // Whether the request could run on an idle cluster. kInvalidArgument: it never can.
  static Status CheckFits(const SchedulerOptions& options, const GenerationRequest& request);

  // Accepts a sequence; ids must ascend. kInvalidArgument as CheckFits; kResourceExhausted when
  // max_waiting sequences wait.
  Status Submit(SeqId id, GenerationRequest request);
  // Ends the sequence with kCancelled; its KV is released with the next step. Unknown ids are
  // ignored.
  void Cancel(SeqId id, SchedulerActions* actions);
  // kDataLoss when the answer does not fit the step, or a step before it has no answer yet: the
  // last stage then cannot be trusted, and nothing of the answer counts.
  Status OnResult(const proto::StepResult& result, SchedulerActions* actions);
  // Ends every sequence with kError and forgets all outstanding steps.
  void EndAll(const Status& why, SchedulerActions* actions);
  // Forms steps until the pipeline is full or nothing is ready. Call after every event.
  void Schedule(SchedulerActions* actions);
  // Forgets the steps under way, which will not be answered; those that ran wait for ChangePlan, no
  // token of theirs lost.
  void DropSteps();
  // The same because a worker is lost. A request may be what it died of, and then the next one does
  // too: who was in steps under way at kMostLosses losses without a token in between is suspected,
  // and runs apart from all others until its next token. Only who was there alone at a loss that
  // makes it a suspect, or while it was one, ends with kError.
  void LoseSteps(const Status& why, SchedulerActions* actions);
  // Goes on over the stages of another plan, which know no sequence: the KV of every running one is
  // computed again from its tokens, oldest first. When no step is outstanding; n_ctx, n_vocab and
  // page_tokens are those of before, so what was accepted still fits.
  void ChangePlan(const SchedulerOptions& options);

  bool idle() const { return sequences_.empty() && released_.empty(); }
  bool has_outstanding() const { return !outstanding_.empty(); }
  // Leading tokens of all sequences that are in KV: what a change of plan computes again.
  int64_t n_computed() const;
  SchedulerCounts counts() const;

 private:
  struct Sequence {
    GenerationRequest request;
    std::vector<int32_t> tokens;  // prompt, then generated
    int64_t n_computed = 0;       // leading tokens that are in KV or in an outstanding step
    int64_t n_pages = 0;
    int64_t max_length = 0;  // prompt + max_tokens, within the context
    int n_in_flight = 0;   // outstanding steps of this run; more than one are chunks of its prefill
    int n_runs = 0;        // times that its KV was taken; answers to earlier runs are ignored
    bool started = false;  // the stages know it
    bool scores_wanted = false;
    // Losses of workers while it was in steps under way, since it had `size_at_loss` tokens.
    int n_losses = 0;
    int64_t size_at_loss = -1;
    StepId last_step;  // its latest, for turns; the next one when it is in the step being formed
    std::vector<model::SampledToken> scores;

    int64_t n_prompt() const { return static_cast<int64_t>(request.prompt.size()); }
    int64_t size() const { return static_cast<int64_t>(tokens.size()); }
    bool decoding() const { return n_computed >= n_prompt() && rows_left() <= 1; }
    int64_t rows_left() const { return size() - n_computed; }
    // Workers may have died of it, or of another that was in steps under way with it.
    bool is_suspect() const { return n_losses >= kMostLosses && size() == size_at_loss; }
  };
  // A sequence's part of a step that has been sent.
  struct SentEntry {
    SeqId seq;
    int n_runs = 0;
    int64_t end = 0;  // its tokens before this one are in KV after the step
    bool sample = false;
  };
  struct Outstanding {
    std::vector<SentEntry> entries;
    bool has_decodes = false;
  };
  // A step being formed.
  struct Draft {
    std::optional<SeqId> only;  // whose rows it may have; none: anybody's
    proto::StepBatch batch;
    int64_t n_rows = 0;
    int64_t start_bytes = 0;
    bool has_decodes = false;

    bool MayHave(SeqId id) const { return !only || *only == id; }
  };

  int64_t PagesOf(int64_t n_tokens) const;
  StepId next_step() const { return {last_step_.value + 1}; }
  std::set<SeqId> UnderWay() const;
  std::optional<SeqId> NoteLoss();
  std::optional<SeqId> OldestSuspect() const;
  bool HasOthersThan(SeqId id) const;
  bool Reserve(SeqId id, Sequence* sequence);
  void Preempt(SeqId id);
  void ReleaseKv(SeqId id, Sequence* sequence);
  void Finish(SeqId id, FinishReason reason, SchedulerActions* actions);

  void AdmitWaiting();
  int DecodeSteps(int n_decoding) const;
  void AddDecodes(Draft* draft);
  void AddPrefills(Draft* draft);
  bool AddRows(SeqId id, Sequence* sequence, int64_t budget, Draft* draft);
  void Send(Draft draft, SchedulerActions* actions);
  std::vector<SeqId> ReadyDecodes(int* n_decoding) const;

  // nullptr when it was cancelled or gave way meanwhile.
  Sequence* WaitingFor(const SentEntry& sent);
  Status CheckAnswers(const Outstanding& outstanding, const proto::StepResult& result);
  Status CheckAnswer(const Sequence& sequence, const SentEntry& sent,
                     const proto::StepResultEntry& entry) const;
  void Apply(const SentEntry& sent, Sequence* sequence, const proto::StepResultEntry& entry,
             SchedulerActions* actions);

  SchedulerOptions options_;
  std::map<SeqId, Sequence> sequences_;  // by age
  std::deque<SeqId> waiting_;
  std::set<SeqId> running_;
  std::map<StepId, Outstanding> outstanding_;
  std::vector<SeqId> released_;  // to be told with the next step
  int64_t pages_used_ = 0;
  int decode_steps_ = 0;  // outstanding ones that carry decodes
  StepId last_step_;
  SchedulerCounts totals_;
};

}  // namespace thermocline::coordinator
