#include "coordinator/http/completion_session.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/str.h"
#include "coordinator/http/api_error.h"
#include "coordinator/http/sse.h"

namespace thermocline::coordinator::http {
namespace {

double Milliseconds(Duration d) { return Seconds(d) * 1e3; }

bool Contains(const TokenIds& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

ApiError SubmissionError(const Status& status, ResponseKind kind) {
  ApiError error = FromStatus(status);
  if (status.code() != StatusCode::kInvalidArgument) return error;
  if (!status.message().starts_with("context_length_exceeded")) return error;
  error.param = kind == ResponseKind::kChat ? "messages" : "prompt";
  error.code = "context_length_exceeded";
  return error;
}

}  // namespace

void CompletionSession::Start(const SessionServices& services, SessionJob job,
                              std::shared_ptr<Exchange> exchange) {
  auto session = std::make_shared<CompletionSession>(services, std::move(job), std::move(exchange));
  session->exchange_->OnDisconnect([session] { session->Abandon(); });
  session->inbox_ = std::make_shared<EventInbox>(
      [weak = std::weak_ptr<CompletionSession>(session), exchange = session->exchange_] {
        exchange->Post([weak] {
          if (const auto live = weak.lock()) live->Drain();
        });
      });
  if (const Status status = session->SubmitAll(); !status.ok()) {
    LogDebug("http",
             Str("request refused: ", status.ToString(), Kv("request", session->job_.request_id)));
    session->Fail(SubmissionError(status, session->job_.head.kind));
    return;
  }
  if (session->job_.options.stream) session->BeginStream();
}

CompletionSession::CompletionSession(const SessionServices& services, SessionJob job,
                                     std::shared_ptr<Exchange> exchange)
    : services_(services),
      job_(std::move(job)),
      exchange_(std::move(exchange)),
      started_(services_.clock.Now()) {
  MakeSequences();
}

CompletionSession::~CompletionSession() { Release(); }

void CompletionSession::MakeSequences() {
  const auto matcher = model::StopMatcher::Create(job_.options.stop);
  CHECK(matcher.ok());  // the parser has validated them
  const ChoiceMembers members = Members();
  const auto n = static_cast<size_t>(job_.options.n);
  for (size_t i = 0; i < job_.prompts.size() * n; ++i) {
    const Choice::Options options{.index = static_cast<int>(i),
                                  .min_tokens = job_.options.min_tokens,
                                  .keep_tokens = members.logprobs || members.token_ids};
    Sequence sequence{.choice = Choice(services_.tokenizer, *matcher, options), .i_prompt = i / n};
    sequence.whole.index = options.index;
    sequences_.push_back(std::move(sequence));
  }
  n_open_ = sequences_.size();
}

GenerationRequest CompletionSession::RequestOf(size_t i_sequence) const {
  const GenerationOptions& options = job_.options;
  GenerationRequest request{.prompt = job_.prompts[sequences_[i_sequence].i_prompt].ids,
                            .sampling = options.sampling,
                            .max_tokens = options.max_tokens,
                            .min_tokens = options.min_tokens,
                            .end_ids = job_.end_ids};
  const size_t i_choice = i_sequence % static_cast<size_t>(options.n);
  request.sampling.seed = options.seed.value_or(0) + i_choice;
  return request;
}

Status CompletionSession::SubmitAll() {
  std::vector<SequenceSubmission> submissions;
  for (size_t i = 0; i < sequences_.size(); ++i) {
    submissions.push_back({RequestOf(i), inbox_->MakeSink(static_cast<int>(i))});
  }
  TC_ASSIGN_OR_RETURN(const auto ids, services_.service.SubmitAll(std::move(submissions)));
  for (size_t i = 0; i < sequences_.size(); ++i) {
    sequences_[i].id = ids[i];
    sequences_[i].running = true;
  }
  return OkStatus();
}

void CompletionSession::BeginStream() {
  stream_started_ = true;
  exchange_->StartStream(SseHead(), kSseKeepAlive);
  if (job_.head.kind != ResponseKind::kChat) return;
  for (const Sequence& sequence : sequences_) {
    exchange_->Write(SseEvent(RoleChunk(job_.head, sequence.whole.index, UsageOfChunk())));
  }
}

void CompletionSession::Drain() {
  for (const SequenceEvent& item : inbox_->Take()) {
    if (done_) return;
    Handle(sequences_[static_cast<size_t>(item.sequence)], item.event);
  }
}

void CompletionSession::Handle(Sequence& sequence, const GenerationEvent& event) {
  if (event.finish) sequence.running = false;
  if (sequence.closed) return;
  if (event.finish == FinishReason::kError || event.finish == FinishReason::kCancelled) {
    const Status cause = event.error.ok() ? Aborted("sequence cancelled") : event.error;
    LogWarn("http", Str("request failed: ", cause.ToString(), Kv("request", job_.request_id)));
    return Fail(FromStatus(cause));
  }
  if (job_.echo && !std::exchange(sequence.echoed, true)) {
    sequence.choice.Echo(job_.prompts[sequence.i_prompt], event.prompt_scores);
  }
  if (event.token) NoteToken(sequence, event);
  if (event.finish) EndSequence(sequence, *event.finish);
  Emit(sequence);
  if (sequence.choice.finished()) CloseChoice(sequence);
}

void CompletionSession::NoteToken(Sequence& sequence, const GenerationEvent& event) {
  const TimePoint now = services_.clock.Now();
  if (n_generated_++ == 0) {
    first_token_ = now;
    services_.metrics.time_to_first_token_s.Observe(Seconds(now - started_));
  }
  if (sequence.last_token) {
    services_.metrics.inter_token_latency_s.Observe(Seconds(now - *sequence.last_token));
  }
  last_token_ = now;
  sequence.last_token = now;
  if (!Contains(job_.end_ids, event.token->token)) sequence.choice.Add(*event.token);
}

void CompletionSession::EndSequence(Sequence& sequence, FinishReason reason) {
  sequence.choice.Finish(reason == FinishReason::kLength ? "length" : "stop");
}

void CompletionSession::Emit(Sequence& sequence) {
  ChoicePiece piece = sequence.choice.Take();
  if (piece.text.empty() && piece.tokens.empty()) return;
  if (job_.options.stream) {
    exchange_->Write(SseEvent(TextChunk(job_.head, piece, Members(), UsageOfChunk())));
    return;
  }
  sequence.whole.text += piece.text;
  std::move(piece.tokens.begin(), piece.tokens.end(), std::back_inserter(sequence.whole.tokens));
}

void CompletionSession::CloseChoice(Sequence& sequence) {
  sequence.closed = true;
  sequence.whole.finish_reason = sequence.choice.finish_reason();
  services_.metrics.CountFinished(sequence.whole.finish_reason);
  if (std::exchange(sequence.running, false)) services_.service.Cancel(sequence.id);
  --n_open_;
  if (job_.options.stream) {
    std::optional<Timings> timings;
    if (n_open_ == 0) timings = CurrentTimings();
    exchange_->Write(SseEvent(FinishChunk(job_.head, sequence.whole, UsageOfChunk(), timings)));
  }
  if (n_open_ == 0) Complete();
}

void CompletionSession::Complete() {
  RecordMetrics();
  done_ = true;
  Release();
  if (job_.options.stream) {
    if (job_.options.include_usage) {
      exchange_->Write(SseEvent(UsageChunk(job_.head, CurrentUsage())));
    }
    exchange_->Write(std::string(kSseDone));
    exchange_->EndStream();
    return;
  }
  std::vector<ChoicePiece> choices;
  for (Sequence& sequence : sequences_) choices.push_back(std::move(sequence.whole));
  HttpResponse response;
  response.body = ResponseBody(job_.head, choices, Members(), CurrentUsage(), CurrentTimings());
  exchange_->Reply(std::move(response));
}

void CompletionSession::Fail(const ApiError& error) {
  done_ = true;
  Release();
  for (size_t i = 0; i < n_open_; ++i) services_.metrics.CountFinished("error");
  if (!stream_started_) return exchange_->Reply(ErrorResponse(error));
  exchange_->Write(SseEvent(ErrorJson(error)));
  exchange_->EndStream();
}

void CompletionSession::Abandon() {
  if (std::exchange(done_, true)) return;
  LogDebug("http", Str("client left", Kv("request", job_.request_id)));
  for (size_t i = 0; i < n_open_; ++i) services_.metrics.CountFinished("abort");
  Release();
}

void CompletionSession::Release() {
  if (inbox_) inbox_->Close();
  for (Sequence& sequence : sequences_) {
    if (std::exchange(sequence.running, false)) services_.service.Cancel(sequence.id);
  }
}

Usage CompletionSession::CurrentUsage() const {
  Usage usage{.completion_tokens = n_generated_};
  for (const EchoedPrompt& prompt : job_.prompts) {
    usage.prompt_tokens += static_cast<int64_t>(prompt.ids.size());
  }
  return usage;
}

Timings CompletionSession::CurrentTimings() const {
  const Usage usage = CurrentUsage();
  Timings timings{.prompt_n = usage.prompt_tokens - usage.cached_tokens,
                  .predicted_n = usage.completion_tokens,
                  .cache_n = usage.cached_tokens};
  const TimePoint prompt_end = n_generated_ > 0 ? first_token_ : services_.clock.Now();
  timings.prompt_ms = Milliseconds(prompt_end - started_);
  if (n_generated_ > 0) timings.predicted_ms = Milliseconds(last_token_ - first_token_);
  return timings;
}

ChunkUsage CompletionSession::UsageOfChunk() const {
  const bool continuous = job_.options.continuous_usage_stats;
  ChunkUsage usage{.present = job_.options.include_usage || continuous};
  if (continuous) usage.value = CurrentUsage();
  return usage;
}

ChoiceMembers CompletionSession::Members() const {
  return {.logprobs = job_.options.sampling.n_logprobs >= 0,
          .token_ids = job_.options.return_token_ids};
}

void CompletionSession::RecordMetrics() {
  RequestMetrics& metrics = services_.metrics;
  const Usage usage = CurrentUsage();
  metrics.request_latency_s.Observe(Seconds(services_.clock.Now() - started_));
  metrics.prompt_tokens.Observe(static_cast<double>(usage.prompt_tokens));
  metrics.generation_tokens.Observe(static_cast<double>(usage.completion_tokens));
  metrics.choices.Observe(job_.options.n);
}

}  // namespace thermocline::coordinator::http
