// A GenerationService without a model: its answers are scripted.
#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "coordinator/generation_service.h"

namespace thermocline::testing {

// By default every sequence gets the tokens of the reply, then an end token. After Hold, sequences
// are accepted and get only what the test emits. Events come from a thread of its own, as the
// engine's do. Thread-safe.
class FakeGenerationService final : public coordinator::GenerationService {
 public:
  FakeGenerationService();
  ~FakeGenerationService() override;

  Result<std::vector<SeqId>> SubmitAll(
      std::vector<coordinator::SequenceSubmission> submissions) override;
  void Cancel(SeqId seq) override;
  coordinator::ServiceStatus status() const override;
  int n_ctx() const override { return 1024; }

  // The tokens of every reply from now on; by default the bytes of "Hello, world".
  void SetReply(std::vector<int32_t> tokens);
  void SetReplyText(const std::string& text);
  // Between two tokens.
  void SetPace(std::chrono::milliseconds pace);
  void SetStatus(coordinator::ServiceStatus status);
  // The next requests are answered with these, in order; ok accepts.
  void RefuseNext(std::vector<Status> statuses);
  void Hold();
  // To the i-th accepted sequence, from the calling thread.
  void Emit(size_t i_sequence, const coordinator::GenerationEvent& event);

  std::vector<coordinator::GenerationRequest> requests() const;
  std::vector<SeqId> cancelled() const;
  // Waits until `n` sequences were accepted or cancelled; false after kPatience.
  bool WaitForRequests(size_t n) const;
  bool WaitForCancelled(size_t n) const;

 private:
  struct Pending {
    SeqId id;
    std::shared_ptr<coordinator::GenerationSink> sink;
    std::deque<coordinator::GenerationEvent> events;
  };

  void Run();
  std::deque<coordinator::GenerationEvent> Script(const coordinator::GenerationRequest& request)
      REQUIRES(mutex_);

  mutable Mutex mutex_;
  mutable CondVar changed_;
  std::vector<int32_t> reply_ GUARDED_BY(mutex_);
  std::chrono::milliseconds pace_ GUARDED_BY(mutex_){0};
  coordinator::ServiceStatus status_ GUARDED_BY(mutex_);
  std::deque<Status> refusals_ GUARDED_BY(mutex_);
  bool hold_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::vector<coordinator::GenerationRequest> requests_ GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<coordinator::GenerationSink>> sinks_ GUARDED_BY(mutex_);
  std::vector<SeqId> cancelled_ GUARDED_BY(mutex_);
  std::deque<Pending> pending_ GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace thermocline::testing
