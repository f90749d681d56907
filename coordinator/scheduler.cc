#include "coordinator/scheduler.h"

#include <algorithm>

#include "base/check.h"
#include "base/str.h"
#include "proto/codec.h"

namespace thermocline::coordinator {
namespace {

// SequenceStarts of one step stay under a quarter of the largest message, whatever biases and bans
// the requests carry.
constexpr int64_t kMaxStartBytes = proto::kMaxMessageBytes / 4;

// Decodes that are worth a step beyond one per stage. Below, a step's time is mostly that of
// reading the weights, whatever its rows, and one step more can cost more than the idle hop it
// fills. Chosen from noisy runs of the demo model on one stage: a second step seemed to lose with 8
// streams and to win with 32; large models were not measured.
constexpr int kDecodesWorthAStep = 8;

// An upper bound of the encoded size: a token id takes at most 5 bytes, a bias 4, the rest fits
// 128.
int64_t StartBytes(const GenerationRequest& request) {
  return 128 + 9 * static_cast<int64_t>(request.sampling.logit_bias.size()) +
         5 * static_cast<int64_t>(request.sampling.banned_ids.size() + request.end_ids.size());
}

Status CheckIds(std::string_view what, const std::vector<int32_t>& ids, int n_vocab) {
  for (const int32_t id : ids) {
    if (id >= 0 && id < n_vocab) continue;
    return InvalidArgument(
        Str(what, " has a token id outside the vocabulary:", Kv("id", id), Kv("n_vocab", n_vocab)));
  }
  return OkStatus();
}

// What the codec would refuse must be refused here: a request must not break a step of others.
Status CheckLists(const GenerationRequest& request) {
  const auto check = [](std::string_view what, size_t n, size_t limit) {
    if (n <= limit) return OkStatus();
    return InvalidArgument(Str(what, " has too many entries:", Kv("n", n), Kv("limit", limit)));
  };
  TC_RETURN_IF_ERROR(check("end_ids", request.end_ids.size(), proto::kMaxEndIds));
  TC_RETURN_IF_ERROR(check("banned_ids", request.sampling.banned_ids.size(), proto::kMaxBannedIds));
  return check("logit_bias", request.sampling.logit_bias.size(), model::kMaxLogitBias);
}

const proto::StepResultEntry* FindEntry(const proto::StepResult& result, SeqId id) {
  for (const proto::StepResultEntry& entry : result.entries) {
    if (entry.seq == id) return &entry;
  }
  return nullptr;
}

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options) : options_(options) {
  CHECK(options.n_ctx > 0 && options.page_tokens > 0 && options.max_step_tokens > 1);
  CHECK(options.n_pages * options.page_tokens >= options.n_ctx);
  CHECK(options.n_batches > 0 && options.max_in_flight > 0);
  CHECK(options.prefill_chunk > 0 && options.max_running > 0);
}

Status Scheduler::CheckFits(const SchedulerOptions& options, const GenerationRequest& request) {
  const int64_t n_prompt = static_cast<int64_t>(request.prompt.size());
  if (n_prompt == 0) return InvalidArgument("prompt has no tokens");
  if (request.max_tokens < -1) {
    return InvalidArgument(Str("max_tokens is negative: ", request.max_tokens));
  }
  const int64_t n_generate = request.max_tokens < 0 ? 1 : request.max_tokens;
  if (n_prompt + n_generate > options.n_ctx) {
    return InvalidArgument(Str("context_length_exceeded: the longest sequence is ", options.n_ctx,
                               " tokens, but ", n_prompt + n_generate, " were requested (",
                               n_prompt, " in the prompt, ", n_generate, " to generate)"));
  }
  if (request.min_tokens < 0 || request.min_tokens > options.n_ctx) {
    return InvalidArgument(
        Str("min_tokens out of range: ", request.min_tokens, " is not in 0..", options.n_ctx));
  }
  TC_RETURN_IF_ERROR(CheckIds("prompt", request.prompt, options.n_vocab));
  TC_RETURN_IF_ERROR(CheckIds("end_ids", request.end_ids, options.n_vocab));
  TC_RETURN_IF_ERROR(CheckIds("banned_ids", request.sampling.banned_ids, options.n_vocab));
  for (const auto& bias : request.sampling.logit_bias) {
    TC_RETURN_IF_ERROR(CheckIds("logit_bias", {bias.first}, options.n_vocab));
  }
  TC_RETURN_IF_ERROR(CheckLists(request));
  return request.sampling.Validate();
}

Status Scheduler::Submit(SeqId id, GenerationRequest request) {
  CHECK(sequences_.empty() || sequences_.rbegin()->first < id);
  TC_RETURN_IF_ERROR(CheckFits(options_, request));
  if (static_cast<int>(waiting_.size()) >= options_.max_waiting) {
    return ResourceExhausted(
        Str("queue is full:", Kv("waiting", waiting_.size()), Kv("limit", options_.max_waiting)));
  }
  Sequence sequence;
  sequence.tokens = request.prompt;
  sequence.max_length =
      request.max_tokens < 0 ? options_.n_ctx : sequence.size() + request.max_tokens;
  sequence.scores_wanted = request.sampling.n_prompt_logprobs >= 0;
  sequence.request = std::move(request);
  sequences_.emplace(id, std::move(sequence));
  waiting_.push_back(id);
  return OkStatus();
}

void Scheduler::Cancel(SeqId id, SchedulerActions* actions) {
  if (sequences_.contains(id)) Finish(id, FinishReason::kCancelled, actions);
}

void Scheduler::EndAll(const Status& why, SchedulerActions* actions) {
  for (const auto& [id, sequence] : sequences_) {
    actions->events.push_back({id, {.finish = FinishReason::kError, .error = why}});
  }
  sequences_.clear();
  waiting_.clear();
  running_.clear();
  outstanding_.clear();
  released_.clear();
  pages_used_ = 0;
  decode_steps_ = 0;
}

void Scheduler::DropSteps() {
  outstanding_.clear();
  decode_steps_ = 0;
  while (!running_.empty()) Preempt(*running_.rbegin());  // the oldest last, to be the first again
  released_.clear();
}

// Who is in a step under way, whatever has become of it since.
std::set<SeqId> Scheduler::UnderWay() const {
  std::set<SeqId> ids;
  for (const auto& [step, outstanding] : outstanding_) {
    for (const SentEntry& sent : outstanding.entries) ids.insert(sent.seq);
  }
  return ids;
}

// Who was under way alone, and has been at as many losses as there may be. The company of one that
// was cancelled counts too: the worker computed it nevertheless.
std::optional<SeqId> Scheduler::NoteLoss() {
  const std::set<SeqId> under_way = UnderWay();
  std::optional<SeqId> guilty;
  for (const SeqId id : under_way) {
    const auto found = sequences_.find(id);
    if (found == sequences_.end()) continue;
    Sequence& sequence = found->second;
    if (sequence.size() != sequence.size_at_loss) sequence.n_losses = 0;
    sequence.size_at_loss = sequence.size();
    ++sequence.n_losses;
    if (sequence.is_suspect() && under_way.size() == 1) guilty = id;
  }
  return guilty;
}

void Scheduler::LoseSteps(const Status& why, SchedulerActions* actions) {
  const std::optional<SeqId> guilty = NoteLoss();
  DropSteps();
  if (!guilty) return;
  const int n_losses = sequences_.at(*guilty).n_losses;
  Finish(*guilty, FinishReason::kError, actions);
  actions->events.back().second.error =
      Internal(Str("given up: ", n_losses,
                   " workers were lost one after the other while they computed "
                   "this request, the last because: ",
                   why.message()));
}

bool Scheduler::HasOthersThan(SeqId id) const {
  const std::set<SeqId> under_way = UnderWay();
  return under_way.size() > under_way.count(id);
}

// Whose turn it is to run apart. A suspect has its pages since it runs, and needs no more until its
// next token, so it waits for nobody.
std::optional<SeqId> Scheduler::OldestSuspect() const {
  for (const SeqId id : running_) {
    if (sequences_.at(id).is_suspect()) return id;
  }
  return std::nullopt;
}

void Scheduler::ChangePlan(const SchedulerOptions& options) {
  CHECK(outstanding_.empty());
  CHECK(options.n_ctx == options_.n_ctx && options.page_tokens == options_.page_tokens);
  CHECK(options.n_pages * options.page_tokens >= options.n_ctx);
  options_ = options;
  DropSteps();
}

int64_t Scheduler::n_computed() const {
  int64_t n_tokens = 0;
  for (const auto& [id, sequence] : sequences_) n_tokens += sequence.n_computed;
  return n_tokens;
}

SchedulerCounts Scheduler::counts() const {
  SchedulerCounts counts = totals_;
  counts.n_running = static_cast<int>(running_.size());
  counts.n_waiting = static_cast<int>(waiting_.size());
  counts.pages_used = pages_used_;
  return counts;
}

// ---- Pages

int64_t Scheduler::PagesOf(int64_t n_tokens) const {
  return (n_tokens + options_.page_tokens - 1) / options_.page_tokens;
}

// Makes room for all tokens of a running sequence, at the cost of the newest ones. False when it
// must wait: the sequence to give way is in the step being formed, or there is none newer.
bool Scheduler::Reserve(SeqId id, Sequence* sequence) {
  const int64_t more = PagesOf(sequence->size()) - sequence->n_pages;
  while (pages_used_ + more > options_.n_pages) {
    const SeqId newest = *running_.rbegin();
    if (newest == id || sequences_.at(newest).last_step == next_step()) return false;
    Preempt(newest);
  }
  sequence->n_pages += more;
  pages_used_ += more;
  return true;
}

// Takes the KV of a running sequence; it will be computed again from its tokens, before any
// sequence that has not run yet. What is in outstanding steps is computed in vain.
void Scheduler::Preempt(SeqId id) {
  Sequence& sequence = sequences_.at(id);
  ReleaseKv(id, &sequence);
  sequence.n_computed = 0;
  sequence.n_in_flight = 0;
  ++sequence.n_runs;
  sequence.scores.clear();
  running_.erase(id);
  waiting_.push_front(id);
  ++totals_.preemptions;
}

void Scheduler::ReleaseKv(SeqId id, Sequence* sequence) {
  pages_used_ -= sequence->n_pages;
  sequence->n_pages = 0;
  if (sequence->started) released_.push_back(id);
  sequence->started = false;
}

void Scheduler::Finish(SeqId id, FinishReason reason, SchedulerActions* actions) {
  const auto found = sequences_.find(id);
  ReleaseKv(id, &found->second);
  if (running_.erase(id) == 0) std::erase(waiting_, id);
  sequences_.erase(found);
  actions->events.push_back({id, {.finish = reason}});
}

// ---- Forming steps

void Scheduler::Schedule(SchedulerActions* actions) {
  while (static_cast<int>(outstanding_.size()) < options_.max_in_flight) {
    AdmitWaiting();
    Draft draft{.only = OldestSuspect()};
    if (draft.only && HasOthersThan(*draft.only)) break;  // until they are answered
    AddDecodes(&draft);
    AddPrefills(&draft);
    if (draft.batch.entries.empty()) break;
    Send(std::move(draft), actions);
  }
  // Nothing else would carry the releases soon.
  if (!released_.empty() && outstanding_.empty()) Send(Draft(), actions);
}

// First come, first served: a sequence that does not fit yet holds back those behind it, so that it
// cannot starve. Each running sequence keeps a page to grow into.
void Scheduler::AdmitWaiting() {
  while (!waiting_.empty() && static_cast<int>(running_.size()) < options_.max_running) {
    const SeqId id = waiting_.front();
    Sequence& sequence = sequences_.at(id);
    const int64_t needed = PagesOf(sequence.size());
    const int64_t headroom = static_cast<int64_t>(running_.size());
    if (pages_used_ + needed + headroom > options_.n_pages) return;
    sequence.n_pages = needed;
    pages_used_ += needed;
    waiting_.pop_front();
    running_.insert(id);
  }
}

// Decoding sequences that are in no outstanding step, longest unserved first; `n_decoding` counts
// those in steps too.
std::vector<SeqId> Scheduler::ReadyDecodes(int* n_decoding) const {
  std::vector<std::pair<StepId, SeqId>> ready;
  *n_decoding = 0;
  for (const SeqId id : running_) {
    const Sequence& sequence = sequences_.at(id);
    if (!sequence.decoding()) continue;
    ++*n_decoding;
    if (sequence.n_in_flight == 0) ready.push_back({sequence.last_step, id});
  }
  std::sort(ready.begin(), ready.end());
  std::vector<SeqId> ids;
  for (const auto& [step, id] : ready) ids.push_back(id);
  return ids;
}

// How many steps share the decodes. As many as keep every stage busy: fewer would leave one idle.
// One more where there are enough of them, so that the first stage has work while a result is on
// its way to the coordinator and the next step on its way back.
int Scheduler::DecodeSteps(int n_decoding) const {
  const int n_spare = options_.n_batches + 1;
  return n_decoding >= n_spare * kDecodesWorthAStep ? n_spare : options_.n_batches;
}

// Each step carries an equal share: more steps would read the weights more often than needed.
void Scheduler::AddDecodes(Draft* draft) {
  int n_decoding = 0;
  const std::vector<SeqId> ready = ReadyDecodes(&n_decoding);
  const int n_steps = DecodeSteps(n_decoding);
  if (decode_steps_ >= n_steps) return;
  const int share = (n_decoding + n_steps - 1) / n_steps;
  // One row is left for a prompt, so that decodes cannot starve it.
  const int most = std::min(share, options_.max_step_tokens - 1);
  for (const SeqId id : ready) {
    if (draft->n_rows >= most) break;
    if (!running_.contains(id)) continue;  // gave way to an older one
    Sequence& sequence = sequences_.at(id);
    if (!draft->MayHave(id) || !Reserve(id, &sequence)) continue;
    draft->has_decodes |= AddRows(id, &sequence, 1, draft);
  }
}

// The chunks of one prompt may be in several outstanding steps: stages run steps in order.
void Scheduler::AddPrefills(Draft* draft) {
  const bool others_decode = std::any_of(running_.begin(), running_.end(),
                                         [&](SeqId id) { return sequences_.at(id).decoding(); });
  int64_t budget = options_.max_step_tokens - draft->n_rows;
  if (others_decode || options_.n_batches > 1) {
    budget = std::min<int64_t>(budget, options_.prefill_chunk);
  }
  for (const SeqId id : running_) {
    Sequence& sequence = sequences_.at(id);
    if (sequence.decoding() || !draft->MayHave(id)) continue;
    const int64_t rows_before = draft->n_rows;
    if (!AddRows(id, &sequence, budget, draft)) break;
    budget -= draft->n_rows - rows_before;
  }
}

// Appends at most `budget` rows of the sequence's next tokens; false when not even one fits.
bool Scheduler::AddRows(SeqId id, Sequence* sequence, int64_t budget, Draft* draft) {
  const bool starts = !sequence->started;
  const int64_t start_bytes = starts ? StartBytes(sequence->request) : 0;
  const int64_t n_rows = std::min(budget, sequence->rows_left());
  if (n_rows < 1 || draft->start_bytes + start_bytes > kMaxStartBytes) return false;

  proto::StepEntry entry{.seq = id, .first_position = sequence->n_computed};
  const auto first = sequence->tokens.begin() + entry.first_position;
  entry.tokens.assign(first, first + n_rows);
  sequence->n_computed += n_rows;
  entry.sample = sequence->rows_left() == 0 && sequence->size() < sequence->max_length;
  if (starts) {
    const GenerationRequest& request = sequence->request;
    entry.start = proto::SequenceStart{.params = request.sampling,
                                       .n_prompt = static_cast<int32_t>(sequence->n_prompt()),
                                       .min_tokens = request.min_tokens,
                                       .end_ids = request.end_ids};
    if (!sequence->scores_wanted) entry.start->params.n_prompt_logprobs = -1;
  }
  sequence->started = true;
  sequence->last_step = next_step();
  ++sequence->n_in_flight;
  draft->n_rows += n_rows;
  draft->start_bytes += start_bytes;
  draft->batch.entries.push_back(std::move(entry));
  return true;
}

void Scheduler::Send(Draft draft, SchedulerActions* actions) {
  ++last_step_.value;
  ++totals_.steps;
  draft.batch.epoch = options_.epoch;
  draft.batch.step = last_step_;
  draft.batch.released = std::exchange(released_, {});
  // A step that only releases needs no answer.
  if (!draft.batch.entries.empty()) {
    Outstanding& outstanding = outstanding_[last_step_];
    outstanding.has_decodes = draft.has_decodes;
    decode_steps_ += draft.has_decodes;
    for (const proto::StepEntry& entry : draft.batch.entries) {
      const Sequence& sequence = sequences_.at(entry.seq);
      outstanding.entries.push_back(
          {entry.seq, sequence.n_runs, sequence.n_computed, entry.sample});
    }
  }
  actions->steps.push_back(std::move(draft.batch));
}

// ---- Results

Status Scheduler::OnResult(const proto::StepResult& result, SchedulerActions* actions) {
  const auto found = outstanding_.find(result.step);
  if (found == outstanding_.end()) {
    totals_.unknown_results += !result.entries.empty();  // a bare release needs no answer
    return OkStatus();
  }
  if (found != outstanding_.begin()) {
    return DataLoss(Str("step result out of order:", Kv("step", result.step),
                        Kv("expected", outstanding_.begin()->first)));
  }
  TC_RETURN_IF_ERROR(CheckAnswers(found->second, result));
  const Outstanding outstanding = std::move(found->second);
  outstanding_.erase(found);
  decode_steps_ -= outstanding.has_decodes;
  for (const SentEntry& sent : outstanding.entries) {
    if (Sequence* const sequence = WaitingFor(sent)) {
      Apply(sent, sequence, *FindEntry(result, sent.seq), actions);
    }
  }
  return OkStatus();
}

Scheduler::Sequence* Scheduler::WaitingFor(const SentEntry& sent) {
  const auto found = sequences_.find(sent.seq);
  const bool waits = found != sequences_.end() && found->second.n_runs == sent.n_runs;
  return waits ? &found->second : nullptr;
}

Status Scheduler::CheckAnswers(const Outstanding& outstanding, const proto::StepResult& result) {
  for (const SentEntry& sent : outstanding.entries) {
    const proto::StepResultEntry* const entry = FindEntry(result, sent.seq);
    if (entry == nullptr) {
      return DataLoss(Str("step result lacks a sequence of its step:", Kv("step", result.step),
                          Kv("seq", sent.seq)));
    }
    const Sequence* const sequence = WaitingFor(sent);
    if (sequence == nullptr) continue;
    TC_RETURN_IF_ERROR(CheckAnswer(*sequence, sent, *entry)
                           .WithContext(Str("step ", result.step, " seq ", sent.seq)));
  }
  return OkStatus();
}

Status Scheduler::CheckAnswer(const Sequence& sequence, const SentEntry& sent,
                              const proto::StepResultEntry& entry) const {
  if (entry.sampled.has_value() != sent.sample) {
    return DataLoss(
        Str(sent.sample ? "step result lacks a token" : "step result has a token too many"));
  }
  if (sent.sample && (entry.sampled->token < 0 || entry.sampled->token >= options_.n_vocab)) {
    return DataLoss(Str("sampled token outside the vocabulary:", Kv("token", entry.sampled->token),
                        Kv("n_vocab", options_.n_vocab)));
  }
  if (!sequence.scores_wanted) return OkStatus();
  // Every token of the prompt computed by then but the first has a score.
  const int64_t wanted = std::min(sent.end, sequence.n_prompt()) - 1;
  const int64_t have = static_cast<int64_t>(sequence.scores.size() + entry.prompt_scores.size());
  if (have == wanted) return OkStatus();
  return DataLoss(Str("step result has other prompt scores than tokens:", Kv("scores", have),
                      Kv("tokens", wanted)));
}

void Scheduler::Apply(const SentEntry& sent, Sequence* sequence,
                      const proto::StepResultEntry& entry, SchedulerActions* actions) {
  const SeqId id = sent.seq;
  --sequence->n_in_flight;
  if (sequence->scores_wanted) {
    sequence->scores.insert(sequence->scores.end(), entry.prompt_scores.begin(),
                            entry.prompt_scores.end());
  }
  if (sent.end < sequence->size()) return;  // more chunks to come
  if (sequence->size() == sequence->n_prompt()) totals_.prompt_tokens += sequence->size();
  if (sequence->scores_wanted) {
    sequence->scores_wanted = false;
    actions->events.push_back({id, {.prompt_scores = std::exchange(sequence->scores, {})}});
  }
  if (!entry.sampled) return Finish(id, FinishReason::kLength, actions);

  const int32_t token = entry.sampled->token;
  sequence->tokens.push_back(token);
  ++totals_.generated_tokens;
  const std::vector<int32_t>& ends = sequence->request.end_ids;
  if (std::find(ends.begin(), ends.end(), token) != ends.end()) {
    return Finish(id, FinishReason::kStop, actions);
  }
  actions->events.push_back({id, {.token = *entry.sampled}});
  if (sequence->size() == sequence->max_length) Finish(id, FinishReason::kLength, actions);
}

}  // namespace thermocline::coordinator
