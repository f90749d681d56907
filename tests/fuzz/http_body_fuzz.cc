// Feeds bytes as the body of every POST route: JSON parsing, validation, templates, tokenization
// and the answer itself, with a service that accepts everything.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "coordinator/http/api.h"
#include "tests/support/byte_tokenizer.h"

namespace {

using namespace thermocline;                     // NOLINT: a test program
using namespace thermocline::coordinator;        // NOLINT
using namespace thermocline::coordinator::http;  // NOLINT

class AcceptingService final : public GenerationService {
 public:
  Result<std::vector<SeqId>> SubmitAll(std::vector<SequenceSubmission> submissions) override {
    std::vector<SeqId> ids;
    for (const SequenceSubmission& submission : submissions) {
      CHECK(!submission.request.prompt.empty());
      ids.push_back({++n_submitted_});
    }
    return ids;
  }
  void Cancel(SeqId) override {}
  ServiceStatus status() const override { return {.state = ServiceState::kReady}; }
  int n_ctx() const override { return 4096; }

 private:
  uint64_t n_submitted_ = 0;
};

// Checks that each request is answered or accepted, and that errors are JSON.
class CheckingExchange final : public Exchange {
 public:
  void Reply(HttpResponse response) override {
    CHECK(response.status >= 200 && response.status < 600);
    CHECK(response.body.starts_with('{'));
    answered_ = true;
  }
  void StartStream(HttpResponse head, std::string_view) override {
    CHECK(head.status == 200);
    answered_ = true;
  }
  void Write(std::string bytes) override { CHECK(bytes.starts_with("data: {")); }
  void EndStream() override {}
  void OnDisconnect(std::function<void()> callback) override { leave_ = std::move(callback); }
  void Post(std::function<void()>) override {}

  // The client goes away, which releases the session.
  void Leave() {
    CHECK(answered_ || leave_);
    if (const auto callback = std::exchange(leave_, nullptr)) callback();
  }

 private:
  bool answered_ = false;
  std::function<void()> leave_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  AcceptingService service;
  const testing::ByteTokenizer tokenizer;
  const SteadyClock clock;
  Metrics metrics;
  const HttpOptions options{.model_name = "m"};
  const ModelCard card;
  Api api({options, card, service, tokenizer, nullptr, clock, metrics});
  for (const char* path :
       {"/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize", "/apply-template"}) {
    const auto exchange = std::make_shared<CheckingExchange>();
    api.Handle({.method = Method::kPost,
                .path = path,
                .body = std::string(reinterpret_cast<const char*>(data), size)},
               exchange);
    exchange->Leave();
  }
  return 0;
}
