// Serves one accepted completion or chat request: submits its sequences, turns their tokens into
// text, and answers, whole or as a stream.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "coordinator/generation_service.h"
#include "coordinator/http/choice.h"
#include "coordinator/http/event_inbox.h"
#include "coordinator/http/message.h"
#include "coordinator/http/openai_request.h"
#include "coordinator/http/openai_response.h"
#include "coordinator/http/request_metrics.h"
#include "model/tokenizer.h"

namespace thermocline::coordinator::http {

// What a session needs; borrowed, outlives every session.
struct SessionServices {
  GenerationService& service;
  const model::Tokenizer& tokenizer;
  const Clock& clock;
  RequestMetrics& metrics;
};

// A validated request whose prompts are tokens.
struct SessionJob {
  ResponseHead head;
  GenerationOptions options;  // with a seed
  std::vector<EchoedPrompt> prompts;
  bool echo = false;
  TokenIds end_ids;
  std::string request_id;  // for the log
};

// Lives until the answer is complete or the client is gone; the exchange's disconnect callback
// keeps it alive. Everything runs on the exchange's strand.
class CompletionSession : public std::enable_shared_from_this<CompletionSession> {
 public:
  // Answers a plain error when a sequence is refused. The head of a stream goes out once all of
  // them are accepted.
  static void Start(const SessionServices& services, SessionJob job,
                    std::shared_ptr<Exchange> exchange);

  CompletionSession(const SessionServices& services, SessionJob job,
                    std::shared_ptr<Exchange> exchange);
  ~CompletionSession();

 private:
  struct Sequence {
    Choice choice;
    size_t i_prompt = 0;
    SeqId id;
    bool running = false;  // at the engine
    bool echoed = false;
    bool closed = false;  // its finish_reason is out
    std::optional<TimePoint> last_token;
    ChoicePiece whole;  // what a response that is not streamed collects
  };

  void MakeSequences();
  GenerationRequest RequestOf(size_t i_sequence) const;
  Status SubmitAll();
  void BeginStream();

  void Drain();
  void Handle(Sequence& sequence, const GenerationEvent& event);
  void NoteToken(Sequence& sequence, const GenerationEvent& event);
  void EndSequence(Sequence& sequence, FinishReason reason);
  void Emit(Sequence& sequence);
  void CloseChoice(Sequence& sequence);
  void Complete();
  void Fail(const ApiError& error);
  // The client is gone.
  void Abandon();
  // Cancels what still runs and stops listening.
  void Release();

  Usage CurrentUsage() const;
  Timings CurrentTimings() const;
  ChunkUsage UsageOfChunk() const;
  ChoiceMembers Members() const;
  void RecordMetrics();

  SessionServices services_;
  const SessionJob job_;
  const std::shared_ptr<Exchange> exchange_;
  std::shared_ptr<EventInbox> inbox_;
  std::vector<Sequence> sequences_;
  size_t n_open_ = 0;  // choices without finish_reason
  int64_t n_generated_ = 0;
  bool stream_started_ = false;
  bool done_ = false;
  TimePoint started_, first_token_, last_token_;
};

}  // namespace thermocline::coordinator::http
