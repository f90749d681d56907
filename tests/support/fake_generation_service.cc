#include "tests/support/fake_generation_service.h"

#include <algorithm>
#include <utility>

#include "tests/support/patience.h"

namespace thermocline::testing {
namespace {

using coordinator::FinishReason;
using coordinator::GenerationEvent;
using coordinator::GenerationRequest;

// The chosen token at -0.5, and as many as asked for below it.
model::SampledToken Scored(int32_t token, int n_top) {
  model::SampledToken sampled{.token = token, .logprob = -0.5f};
  for (int i = 0; i < n_top; ++i) {
    sampled.top.push_back({(token + i) % 256, -0.5f - static_cast<float>(i)});
  }
  return sampled;
}

std::vector<model::SampledToken> PromptScores(const GenerationRequest& request) {
  std::vector<model::SampledToken> scores;
  if (request.sampling.n_prompt_logprobs < 0) return scores;
  for (size_t i = 1; i < request.prompt.size(); ++i) {
    scores.push_back(Scored(request.prompt[i], request.sampling.n_prompt_logprobs));
  }
  return scores;
}

}  // namespace

FakeGenerationService::FakeGenerationService() {
  status_.state = coordinator::ServiceState::kReady;
  SetReplyText("Hello, world");
  thread_ = std::thread([this] { Run(); });
}

FakeGenerationService::~FakeGenerationService() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

std::deque<GenerationEvent> FakeGenerationService::Script(const GenerationRequest& request) {
  std::deque<GenerationEvent> events;
  const int n_top = request.sampling.n_logprobs;
  const bool endless = request.end_ids.empty();
  for (int i = 0; request.max_tokens < 0 || i < request.max_tokens; ++i) {
    const bool spent = static_cast<size_t>(i) >= reply_.size();
    if (spent && (!endless || request.max_tokens < 0)) break;
    const int32_t token = reply_[static_cast<size_t>(i) % reply_.size()];
    events.push_back({.token = Scored(token, n_top)});
  }
  const auto n_tokens = static_cast<int>(events.size());
  if (request.max_tokens >= 0 && n_tokens == request.max_tokens) {
    events.push_back({.finish = FinishReason::kLength});
  } else {
    const int32_t end = endless ? 257 : request.end_ids.front();
    events.push_back({.token = Scored(end, n_top), .finish = FinishReason::kStop});
  }
  events.front().prompt_scores = PromptScores(request);
  return events;
}

Result<std::vector<SeqId>> FakeGenerationService::SubmitAll(
    std::vector<coordinator::SequenceSubmission> submissions) {
  const MutexLock lock(mutex_);
  if (!refusals_.empty()) {
    Status refusal = std::move(refusals_.front());
    refusals_.pop_front();
    if (!refusal.ok()) return refusal;
  }
  std::vector<SeqId> ids;
  for (auto& [request, sink] : submissions) {
    ids.push_back({requests_.size() + 1});
    if (!hold_) pending_.push_back({ids.back(), sink, Script(request)});
    requests_.push_back(std::move(request));
    sinks_.push_back(std::move(sink));
  }
  changed_.notify_all();
  return ids;
}

void FakeGenerationService::Cancel(SeqId seq) {
  const MutexLock lock(mutex_);
  cancelled_.push_back(seq);
  std::erase_if(pending_, [seq](const Pending& pending) { return pending.id == seq; });
  changed_.notify_all();
}

void FakeGenerationService::Run() {
  for (;;) {
    std::shared_ptr<coordinator::GenerationSink> sink;
    GenerationEvent event;
    {
      const MutexLock lock(mutex_);
      while (!stopping_ && pending_.empty()) changed_.wait(mutex_);
      if (pace_.count() > 0 && !stopping_) changed_.wait_for(mutex_, pace_);
      if (stopping_) return;
      if (pending_.empty()) continue;
      // One token to each sequence in turn, as a batch would.
      Pending next = std::move(pending_.front());
      pending_.pop_front();
      sink = next.sink;
      event = std::move(next.events.front());
      next.events.pop_front();
      if (!next.events.empty()) pending_.push_back(std::move(next));
    }
    sink->OnEvent(event);
  }
}

coordinator::ServiceStatus FakeGenerationService::status() const {
  const MutexLock lock(mutex_);
  return status_;
}

void FakeGenerationService::SetReply(std::vector<int32_t> tokens) {
  const MutexLock lock(mutex_);
  reply_ = std::move(tokens);
}

void FakeGenerationService::SetReplyText(const std::string& text) {
  std::vector<int32_t> tokens;
  for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
  SetReply(std::move(tokens));
}

void FakeGenerationService::SetPace(std::chrono::milliseconds pace) {
  const MutexLock lock(mutex_);
  pace_ = pace;
}

void FakeGenerationService::SetStatus(coordinator::ServiceStatus status) {
  const MutexLock lock(mutex_);
  status_ = std::move(status);
}

void FakeGenerationService::RefuseNext(std::vector<Status> statuses) {
  const MutexLock lock(mutex_);
  refusals_.assign(statuses.begin(), statuses.end());
}

void FakeGenerationService::Hold() {
  const MutexLock lock(mutex_);
  hold_ = true;
}

void FakeGenerationService::Emit(size_t i_sequence, const GenerationEvent& event) {
  std::shared_ptr<coordinator::GenerationSink> sink;
  {
    const MutexLock lock(mutex_);
    sink = sinks_.at(i_sequence);
  }
  sink->OnEvent(event);
}

std::vector<GenerationRequest> FakeGenerationService::requests() const {
  const MutexLock lock(mutex_);
  return requests_;
}

std::vector<SeqId> FakeGenerationService::cancelled() const {
  const MutexLock lock(mutex_);
  return cancelled_;
}

bool FakeGenerationService::WaitForRequests(size_t n) const {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  const MutexLock lock(mutex_);
  while (requests_.size() < n) {
    if (changed_.wait_until(mutex_, deadline) == std::cv_status::timeout) break;
  }
  return requests_.size() >= n;
}

bool FakeGenerationService::WaitForCancelled(size_t n) const {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  const MutexLock lock(mutex_);
  while (cancelled_.size() < n) {
    if (changed_.wait_until(mutex_, deadline) == std::cv_status::timeout) break;
  }
  return cancelled_.size() >= n;
}

}  // namespace thermocline::testing
